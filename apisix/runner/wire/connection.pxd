# SPDX-License-Identifier: Apache-2.0
# C declarations for `connection.py`. Only Cython reads this file.

cimport cython

from apisix.runner.wire.frames cimport FrameDecoder
from apisix.runner.wire.tables cimport Message

cdef class Transition:
    cdef readonly object message_type
    cdef readonly object decode
    cdef readonly Py_ssize_t open_change
    cdef readonly StateNode target

cdef class StateNode:
    cdef readonly object state
    cdef readonly list receiving
    cdef readonly dict sending

cdef class Connection:
    cdef readonly object role
    cdef readonly Py_ssize_t open_info_requests
    cdef readonly FrameDecoder decoder
    cdef object _error
    cdef StateNode _node
    cpdef receive_data(self, data)
    @cython.locals(payload=bytes, transition=Transition)
    cpdef next_event(self)
    @cython.locals(transition=Transition, count=Py_ssize_t)
    cpdef bytearray send(self, Message message)
    cdef Py_ssize_t _counted(self, Transition transition, error) except -1
