# SPDX-License-Identifier: Apache-2.0
# The classes and types of `connection.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.wire.frames cimport FrameDecoder
from apisix.runner.wire.tables cimport Message

cdef class Connection:
    cdef readonly object role
    cdef readonly object state
    cdef readonly Py_ssize_t unanswered
    cdef FrameDecoder _decoder
    cdef object _error
    cdef dict _receiving
    cdef dict _sending
    cpdef receive_data(self, bytes data)
    @cython.locals(frame=tuple, payload=bytes, move=tuple)
    cpdef next_event(self)
    cpdef bytes send(self, Message message)
    cdef Py_ssize_t _count(self, kind, error) except -1
