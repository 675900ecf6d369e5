# SPDX-License-Identifier: Apache-2.0
# C declarations for `outcomes.py`. Only Cython reads this file.

cpdef capture(work)
cpdef unwrap(list outcomes)
