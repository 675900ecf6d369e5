# SPDX-License-Identifier: Apache-2.0
# The classes and types of `frames.py` in C. Only the accelerator reads this file.

cpdef bytes frame_header(long frame_type, Py_ssize_t size_bytes)

cdef class FrameDecoder:
    cdef bytes _chunk
    cdef Py_ssize_t _pos
    cdef object _queue
    cdef long _type
    cdef list _pieces
    cdef Py_ssize_t _gathered
    cdef Py_ssize_t _missing
    cpdef feed(self, bytes data)
    cpdef tuple next_frame(self)
    cdef tuple _gather(self)
    cdef _keep(self, piece)
