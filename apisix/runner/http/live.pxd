# SPDX-License-Identifier: Apache-2.0
# The classes of `live.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http.overlay cimport Overlay

cdef class Live:
    cdef Overlay _overlay
    cdef _real(self)

cdef class LiveValues(Live):
    cdef _real(self)

cdef class LiveSet(Live):
    pass

cdef class LiveNames(LiveSet):
    cdef _real(self)

cdef class LiveItems(LiveSet):
    cdef _real(self)

@cython.locals(self=LiveNames)
cpdef names_of(Overlay overlay)
@cython.locals(self=LiveItems)
cpdef items_of(Overlay overlay)
@cython.locals(self=LiveValues)
cpdef values_of(Overlay overlay)
