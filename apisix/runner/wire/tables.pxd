# SPDX-License-Identifier: Apache-2.0
# The classes and types of `tables.py` in C. Only the accelerator reads this file.

from apisix.runner.wire cimport scalars
from apisix.runner.wire.frames cimport put_header
from apisix.runner.wire.entries cimport TextEntries, entries_at

cdef class Table:
    cpdef put(self, bytearray out)
    cpdef tuple _values(self)

cdef class Message(Table):
    cpdef bytes encode(self)
    cpdef bytearray encode_frame(self)

cdef bytes _FRAME_START

cpdef Py_ssize_t optional_u32(bytes buf, Py_ssize_t table, Py_ssize_t at) except -1
cpdef TextEntries optional_entries(bytes buf, Py_ssize_t table, Py_ssize_t at)
cpdef str optional_text(bytes buf, Py_ssize_t table, Py_ssize_t at)
cpdef bytes optional_bytes(bytes buf, Py_ssize_t table, Py_ssize_t at)
