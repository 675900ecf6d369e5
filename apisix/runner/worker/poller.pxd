# SPDX-License-Identifier: Apache-2.0
# The class of `poller.py` in C. Only the accelerator reads this file.

cimport cython

cdef long _READABLE
cdef long _WRITABLE

cdef class Poller:
    cdef object _loop
    cdef dict _watched
    cdef object _epoll
    cpdef _turn(self)
    @cython.locals(events=long)
    cpdef _serve(self, ready)
