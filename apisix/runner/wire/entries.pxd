# SPDX-License-Identifier: Apache-2.0
# C declarations for `entries.py`. Only Cython reads this file.

cimport cython
from libc.stdint cimport uint64_t

from apisix.runner cimport primitives

cdef Py_ssize_t _MAX_ENTRIES
@cython.locals(field=Py_ssize_t, start=Py_ssize_t, count=Py_ssize_t, self=EntriesInBuffer)
cpdef TextEntries entries_field(bytes buf, Py_ssize_t table, Py_ssize_t slot)
@cython.locals(self=TextEntries)
cpdef TextEntries entries_of(pairs)
@cython.locals(self=TextEntries)
cpdef TextEntries owned_entries(list pairs)
cdef Py_ssize_t _MAX_UNFOLDED_BYTES
@cython.locals(touched=dict)
cdef dict _touched(dict edits, dict drop)
@cython.locals(self=WrittenEntries)
cdef WrittenEntries _written(bytearray out, Py_ssize_t count)

cdef class TextEntries:
    cdef list _pairs
    cpdef list decoded(self)
    cpdef Py_ssize_t size(self) except -1
    cpdef value(self, Py_ssize_t index)
    cpdef Py_ssize_t find(self, name, Py_ssize_t start=*, bint ignore_case=*) except -2
    @cython.locals(touched=dict, pairs=list)
    cpdef TextEntries edited(self, dict edits, dict drop)
    @cython.locals(pairs=list)
    cpdef put(self, bytearray out)

cdef class EntriesInBuffer(TextEntries):
    cdef bytes _buf
    cdef Py_ssize_t _first
    cdef Py_ssize_t _count
    cdef _begin(self, bytes buf, Py_ssize_t first, Py_ssize_t count)
    cpdef list decoded(self)
    cpdef Py_ssize_t size(self) except -1
    @cython.locals(
        touched=dict, lengths=uint64_t, key=bytes, buf=bytes, unfolded=Py_ssize_t, out=bytearray, place=Py_ssize_t, index=Py_ssize_t,
        name=Py_ssize_t, name_end=Py_ssize_t, value=Py_ssize_t, value_end=Py_ssize_t, found=bytes, edit=tuple,
    )
    cpdef TextEntries edited(self, dict edits, dict drop)
    cpdef value(self, Py_ssize_t index)
    cpdef Py_ssize_t find(self, name, Py_ssize_t start=*, bint ignore_case=*) except -2

cdef class WrittenEntries(EntriesInBuffer):
    cpdef put(self, bytearray out)
