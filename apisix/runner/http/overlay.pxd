# SPDX-License-Identifier: Apache-2.0
# The class of `overlay.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http.fields cimport check_header
from apisix.runner.wire cimport scalars
from apisix.runner.wire.entries cimport TextEntries, entries_of

cdef dict _folded

cdef list _as_text(TextEntries entries)

cdef class Overlay:
    cdef public bint _folds
    cdef public TextEntries _entries
    cdef public dict _overlay
    cdef public object _all
    cpdef _check(self, key, value)
    cpdef _identity(self, key)
    cpdef Py_ssize_t _find(self, identity, Py_ssize_t start=*) except -2
    cpdef _original(self, Py_ssize_t index)
    @cython.locals(index=Py_ssize_t)
    cpdef _first(self, key)
    cpdef list _values(self, key)
    @cython.locals(index=Py_ssize_t)
    cpdef list _originals(self, identity)
    cpdef _materialise(self)
    cpdef list pairs(self)
    cpdef _delete(self, key)
    cpdef _touch(self, identity)
    cpdef list changes(self)
    cpdef TextEntries complete(self, dict drop)
