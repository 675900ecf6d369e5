# SPDX-License-Identifier: Apache-2.0
# The classes of `headers.py` in C. Only the accelerator reads this file.

cimport cython
from libc.stdint cimport uint32_t

from apisix.runner.http.edits cimport EditableEntries
from apisix.runner.http.fields cimport check_header, check_text
from apisix.runner cimport primitives
from apisix.runner.wire.entries cimport TextEntries

cdef uint32_t _FIRST_LETTERS

cdef class Headers(EditableEntries):
    pass

cdef class RequestHeaders(Headers):
    cdef _check(self, key, value)
    cdef _check_framing(self, identity, value)
    cpdef list changes(self)
    cdef list _allowed(self, list changed)

cdef class ClientHeaders(Headers):
    cdef _check(self, key, value)

cdef class Args(EditableEntries):
    cdef _check(self, key, value)

@cython.locals(self=Headers)
cpdef Headers headers_of(TextEntries entries)
@cython.locals(self=RequestHeaders)
cpdef RequestHeaders request_headers_of(TextEntries entries)
@cython.locals(self=ClientHeaders)
cpdef ClientHeaders client_headers()
@cython.locals(self=Args)
cpdef Args args_of(TextEntries entries)
