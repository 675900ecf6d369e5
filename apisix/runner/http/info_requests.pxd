# SPDX-License-Identifier: Apache-2.0
# The class of `asking.py` in C. Only the accelerator reads this file.

cdef class Answers:
    cdef object _asking
    cdef dict _known
    cdef dict _pending
    cdef bint _spent
    cdef public object decompressed
    cpdef get(self, info, accessor)
    cpdef fetch(self, infos)
