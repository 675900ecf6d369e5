# SPDX-License-Identifier: Apache-2.0
# C declarations for `response.py`. Only Cython reads this file.

cimport cython

from apisix.runner.http.message cimport HTTPMessage
from apisix.runner.http.multidict_view cimport begin
from apisix.runner.http.reply cimport Reply, replacement_message
from apisix.runner.http.headers cimport Headers
from apisix.runner.wire.call_messages cimport HTTPRespCallReq, HTTPRespCallResp, resp_call_resp
from apisix.runner.wire.entries cimport TextEntries, entries_of

cdef dict _HOP_BY_HOP
cdef dict _HOP_BY_HOP_AND_LENGTH

cdef class Response(HTTPMessage):
    cdef HTTPRespCallReq _message
    cdef object _phase
    cdef object _route_key
    cdef Headers _headers
    cdef Py_ssize_t _max_decompressed_bytes
    cdef long _status
    cdef _body_info(self)
    @cython.locals(entries=TextEntries, index=Py_ssize_t)
    cdef _content_length(self)
    cdef bytes _plain(self, accessor)
    cdef str _codings(self, bytes body)
    cpdef tuple mark(self)
    cpdef to_message(self, Reply reply=*)
    @cython.locals(copied=Response)
    cpdef copy(self)
    @cython.locals(received=TextEntries, complete=TextEntries)
    cdef TextEntries _complete_headers(self)
