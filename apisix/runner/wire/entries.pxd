# SPDX-License-Identifier: Apache-2.0
# The classes and types of `entries.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.wire cimport flatbuf, scalars

@cython.locals(first=Py_ssize_t, count=Py_ssize_t, self=EntriesInBuffer)
cpdef EntriesInBuffer entries_at(bytes buf, Py_ssize_t pos)
@cython.locals(self=TextEntries)
cpdef TextEntries entries_of(pairs)
@cython.locals(self=TextEntries)
cpdef TextEntries owned_entries(list pairs)

cdef class TextEntries:
    cdef list _pairs
    cpdef list decoded(self)
    cpdef value(self, Py_ssize_t index)
    cpdef Py_ssize_t find(self, bytes name, Py_ssize_t start=*, bint ignore_case=*) except -2
    @cython.locals(pairs=list)
    cpdef put(self, bytearray out)

cdef class EntriesInBuffer(TextEntries):
    cdef bytes _buf
    cdef Py_ssize_t _first
    cdef Py_ssize_t _count
    cdef _begin(self, bytes buf, Py_ssize_t first, Py_ssize_t count)
    cpdef list decoded(self)
    cdef list _decode(self)
    cpdef value(self, Py_ssize_t index)
    cpdef Py_ssize_t find(self, bytes name, Py_ssize_t start=*, bint ignore_case=*) except -2
