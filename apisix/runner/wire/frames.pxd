# SPDX-License-Identifier: Apache-2.0
# C declarations for `frames.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives

cdef Py_ssize_t _HEADER_BYTES
cdef Py_ssize_t _MAX_PAYLOAD_BYTES
cdef Py_ssize_t _FIRST_UNKNOWN_HEADER

cpdef bytes frame_header(long frame_type, Py_ssize_t size_bytes)
@cython.locals(size_bytes=Py_ssize_t)
cpdef put_header(bytearray out, long frame_type)

cdef class FrameDecoder:
    cdef readonly long frame_type
    cdef readonly Py_ssize_t missing_bytes
    cdef readonly bint incomplete
    cdef readonly bint may_have_more
    cdef bytes _whole
    cdef bytes _chunk
    cdef Py_ssize_t _pos
    cdef object _queue
    cdef long _type
    cdef list _pieces
    cdef Py_ssize_t _gathered
    cpdef clear(self)
    cpdef feed(self, bytes data)
    @cython.locals(header=Py_ssize_t)
    cpdef feed_buffer(self, bytearray buffer, Py_ssize_t size)
    @cython.locals(whole=bytes, chunk=bytes, header=Py_ssize_t, length=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t)
    cpdef bytes next_payload(self)
    cdef bytes _gather(self)
    cdef _keep(self, piece)
