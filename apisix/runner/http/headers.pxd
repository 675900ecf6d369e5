# SPDX-License-Identifier: Apache-2.0
# C declarations for `headers.py`. Only Cython reads this file.

from libc.stdint cimport uint32_t

from apisix.runner.http.header_rules cimport check_header
from apisix.runner.http.mutable_multidict_view cimport MutableMultidictView
from apisix.runner cimport primitives

cdef uint32_t _FIRST_LETTERS

cdef class Headers(MutableMultidictView):
    cdef str _identity(self, key)
    cdef Py_ssize_t _index(self, str identity, Py_ssize_t start) except -2
    cdef _check(self, key, value)

cdef class RequestHeaders(Headers):
    cdef _check(self, key, value)
    cdef _check_framing(self, identity, value)
    cpdef list changes(self)
    cdef list _allowed(self, list changed)

cdef class ClientHeaders(Headers):
    cdef _check(self, key, value)
