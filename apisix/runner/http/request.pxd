# SPDX-License-Identifier: Apache-2.0
# C declarations for `request.py`. Only Cython reads this file.

cimport cython

from apisix.runner.http.message cimport HTTPMessage
from apisix.runner.http.multidict_view cimport begin
from apisix.runner.http.headers cimport ClientHeaders, RequestHeaders
from apisix.runner.http.query cimport Args
from apisix.runner.http.reply cimport Reply, stop_message
from apisix.runner.wire.call_messages cimport HTTPReqCallReq, HTTPReqCallResp, Rewrite
from apisix.runner.wire.entries cimport TextEntries, owned_entries


@cython.locals(self=HTTPReqCallResp)
cdef HTTPReqCallResp _reply_message(call_id, Rewrite action)

cdef class Request(HTTPMessage):
    cdef HTTPReqCallReq _message
    cdef object _phase
    cdef object _route_key
    cdef RequestHeaders _headers
    cdef Args _args
    cdef ClientHeaders _response_headers
    cdef object _path
    cdef bint _first
    cdef public dict _adapters
    cdef _body_info(self)
    @cython.locals(entries=TextEntries, index=Py_ssize_t)
    cdef _content_length(self)
    @cython.locals(entries=TextEntries)
    cdef bint _may_be_withheld(self) except -1
    cpdef tuple mark(self)
    cpdef bint reply_may_need_info(self) except -1
    @cython.locals(headers=list, args=list, client_headers=list, rewrite=Rewrite)
    cpdef to_message(self, Reply reply=*)
    @cython.locals(copied=Request)
    cpdef copy(self)
