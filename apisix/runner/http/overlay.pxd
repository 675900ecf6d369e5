# SPDX-License-Identifier: Apache-2.0
# The class of `overlay.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http.fields cimport check_header
from apisix.runner.http.interface cimport Interface
from apisix.runner cimport primitives
from apisix.runner.wire.entries cimport TextEntries, entries_of

cdef dict _folded
cdef dict _encoded
cdef object _MISSING

cdef str _fold(key)
cdef list _as_text(TextEntries entries)

cdef class Overlay(Interface):
    cdef bint _folds
    cdef TextEntries _entries
    cdef dict _overlay
    cdef object _all
    cdef _begin(self, TextEntries entries, bint folds)
    cdef _identity(self, key)
    cdef _came_identity(self, name)
    cdef _check(self, key, value)
    @cython.locals(name=bytes)
    cdef Py_ssize_t _index(self, identity, Py_ssize_t start=*) except -2
    cdef Py_ssize_t _other_index(self, identity, Py_ssize_t start) except -2
    cdef _original(self, Py_ssize_t index)
    @cython.locals(index=Py_ssize_t)
    cdef list _originals(self, identity)
    @cython.locals(index=Py_ssize_t, overlay=dict)
    cdef _first(self, key)
    @cython.locals(overlay=dict)
    cdef list _values(self, key)
    cpdef list pairs(self)
    cpdef list names(self)
    @cython.locals(merged=list, gaps=bint, index=Py_ssize_t)
    cdef list _merged(self, list pairs, dict overlay)
    cpdef _real(self)
    cpdef _materialise(self)
    cdef _delete(self, key)
    cdef _touch(self, identity)
    @cython.locals(overlay=dict, changed=list, index=Py_ssize_t, edit=tuple)
    cpdef list changes(self)
    cpdef bint changed(self, key) except -1
    cpdef TextEntries complete(self, dict drop)
