# SPDX-License-Identifier: Apache-2.0
# C declarations for `connection.py`. Only Cython reads this file.

cimport cython

from apisix.runner.wire.frames cimport FrameDecoder
from apisix.runner.wire.tables cimport Message

cdef class Move:
    cdef readonly object kind
    cdef readonly object decode
    cdef readonly Py_ssize_t asking
    cdef readonly Place then

cdef class Place:
    cdef readonly object state
    cdef readonly list receiving
    cdef readonly dict sending

cdef class Connection:
    cdef readonly object role
    cdef readonly Py_ssize_t unanswered
    cdef readonly FrameDecoder decoder
    cdef object _error
    cdef Place _place
    cpdef receive_data(self, data)
    @cython.locals(payload=bytes, move=Move)
    cpdef next_event(self)
    @cython.locals(move=Move, unanswered=Py_ssize_t)
    cpdef bytearray send(self, Message message)
    cdef Py_ssize_t _count(self, Move move, error) except -1
