# SPDX-License-Identifier: Apache-2.0
# C declarations for `multidict_view.py`. Only Cython reads this file.

cimport cython

from apisix.runner.wire.entries cimport TextEntries, entries_of

cdef object MISSING

@cython.collection_type("mapping")
cdef class Interface:
    pass

cdef class MultidictView(Interface):
    cdef TextEntries _entries
    cdef dict _edits
    cdef object _materialized
    cdef _begin(self, TextEntries entries)
    cdef str _identity(self, key)
    cdef Py_ssize_t _index(self, str identity, Py_ssize_t start) except -2
    cdef str _received(self, Py_ssize_t index)
    @cython.locals(index=Py_ssize_t)
    cdef list _received_values(self, str identity)
    @cython.locals(identity=str, edits=dict, index=Py_ssize_t)
    cdef _first(self, key)
    @cython.locals(identity=str, edits=dict)
    cdef list _values(self, key)
    @cython.locals(pair=tuple)
    cdef list _received_pairs(self)
    cpdef list pairs(self)
    @cython.locals(merged=list, gaps=bint, index=Py_ssize_t)
    cdef list _merged(self, list pairs, dict edits)
    cpdef list names(self)
    cpdef _real(self)
    cdef dict _grouped(self, list pairs)
    @cython.locals(copied=MultidictView)
    cpdef copy(self)
    cpdef mark(self)
    cpdef edited_names(self)
    @cython.locals(identity=str)
    cpdef bint changed(self, key) except -1
    @cython.locals(changed=list, received=dict, current=dict, identity=str, edit=tuple, index=Py_ssize_t)
    cpdef list changes(self)
    cpdef TextEntries complete(self, dict drop)

cdef MultidictView begin(MultidictView view, TextEntries entries)

cdef default_or_error(key, default)

cdef class _DictView:
    cdef MultidictView _view
    cdef _real(self)

cdef class _ValuesView(_DictView):
    cdef _real(self)

cdef class _SetView(_DictView):
    pass

cdef class _KeysView(_SetView):
    cdef _real(self)

cdef class _ItemsView(_SetView):
    cdef _real(self)
