# SPDX-License-Identifier: Apache-2.0
# C declarations for `forked.py`. Only Cython reads this file.

cpdef end_if_child(error=*)

cdef class EndingInChild:
    cdef readonly object cr_await
    cdef object _steps
