# SPDX-License-Identifier: Apache-2.0
# C declarations for `info_requests.py`. Only Cython reads this file.

cimport cython

cdef object _UNKNOWN

cdef class InfoReplies:
    cdef object _io
    cdef object _subject
    cdef dict _known
    cdef dict _pending
    cdef bint _spent
    cdef public object decompressed
    cdef public object metadata
    cpdef get(self, info, accessor=*)
    @cython.locals(missing=list)
    cpdef fetch(self, infos)
    @cython.locals(index=Py_ssize_t)
    cdef _keep(self, list infos, list replies)
    cdef _refuse_spent(self, list infos)
