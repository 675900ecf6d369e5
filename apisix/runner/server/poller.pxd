# SPDX-License-Identifier: Apache-2.0
# The class of `poller.py` in C. Only the accelerator reads this file.

cdef class Poller:
    cdef object _loop
    cdef dict _watched
    cdef object _epoll
    cpdef _turn(self)
    cpdef _tell(self, descriptor, bint readable, bint writable)
