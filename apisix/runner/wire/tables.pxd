# SPDX-License-Identifier: Apache-2.0
# C declarations for `tables.py`. Only Cython reads this file.

from apisix.runner cimport primitives
from apisix.runner.wire.frames cimport put_header

cdef class Table:
    cpdef put(self, bytearray out)
    cpdef tuple _values(self)

cdef class Message(Table):
    cpdef bytes encode(self)
    cpdef bytearray encode_frame(self)

cdef bytes _FRAME_START
