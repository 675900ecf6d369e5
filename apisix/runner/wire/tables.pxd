# SPDX-License-Identifier: Apache-2.0
# The classes and types of `tables.py` in C. Only the accelerator reads this file.

from apisix.runner cimport primitives
from apisix.runner.wire.frames cimport put_header

cdef class Table:
    cpdef put(self, bytearray out)
    cpdef tuple _values(self)

cdef class Message(Table):
    cpdef bytes encode(self)
    cpdef bytearray encode_frame(self)

cdef bytes _FRAME_START
