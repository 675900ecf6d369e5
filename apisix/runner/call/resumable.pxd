# SPDX-License-Identifier: Apache-2.0
# C declarations for `resumable.py`. Only Cython reads this file.

cdef class Resumable:
    cdef run_in_context(self)
    cdef bint was_suspended(self) except -1
    cdef info_received(self, requests)
