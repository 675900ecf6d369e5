# SPDX-License-Identifier: Apache-2.0
# The classes and types of `connection.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.wire.frames cimport FrameDecoder
from apisix.runner.wire.tables cimport Message

cdef class Place:
    cdef readonly object state
    cdef readonly dict receiving
    cdef readonly dict sending

cdef class Connection:
    cdef readonly object role
    cdef readonly Py_ssize_t unanswered
    cdef FrameDecoder _decoder
    cdef object _error
    cdef Place _place
    cpdef receive_data(self, data)
    @cython.locals(frame=tuple, payload=bytes, move=tuple, asking=Py_ssize_t, then=Place)
    cpdef next_event(self)
    @cython.locals(move=tuple, asking=Py_ssize_t, unanswered=Py_ssize_t, then=Place)
    cpdef bytearray send(self, Message message)
    cdef Py_ssize_t _count(self, kind, Py_ssize_t asking, error) except -1
