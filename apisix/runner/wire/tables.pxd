# SPDX-License-Identifier: Apache-2.0
# The classes and types of `tables.py` in C. Only the accelerator reads this file.

from apisix.runner.wire cimport flatbuf
from apisix.runner.wire.entries cimport EntriesInBuffer, TextEntries

cdef class Table:
    cpdef Py_ssize_t put(self, list parts) except -1
    cpdef tuple _values(self)

cdef class Message(Table):
    cpdef bytes encode(self)
    cpdef bytes encode_frame(self)

cpdef TextEntries given_entries(pairs)
cpdef Py_ssize_t optional_u32(bytes buf, Py_ssize_t table, Py_ssize_t at) except -1
cpdef TextEntries optional_entries(bytes buf, Py_ssize_t table, Py_ssize_t at)
cpdef str optional_text(bytes buf, Py_ssize_t table, Py_ssize_t at)
cpdef bytes optional_bytes(bytes buf, Py_ssize_t table, Py_ssize_t at)
