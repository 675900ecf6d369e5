# SPDX-License-Identifier: Apache-2.0
# The class of `request.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http.exchange cimport Exchange
from apisix.runner.http.headers cimport Args, ClientHeaders, RequestHeaders, args_of, client_headers, request_headers_of
from apisix.runner.http.reply cimport Reply, stop_message
from apisix.runner.wire.call_messages cimport HTTPReqCallReq, HTTPReqCallResp, Rewrite
from apisix.runner.wire.entries cimport TextEntries, owned_entries


@cython.locals(self=HTTPReqCallResp)
cdef HTTPReqCallResp _answer(call_id, Rewrite action)

cdef class Request(Exchange):
    cdef HTTPReqCallReq _message
    cdef object _phase
    cdef object _route_key
    cdef RequestHeaders _headers
    cdef Args _args
    cdef ClientHeaders _response_headers
    cdef object _path
    cdef bint _first
    cdef public dict _legacy
    cpdef tuple mark(self)
    cpdef bint reply_might_ask(self) except -1
    @cython.locals(headers=list, args=list, client_headers=list, rewrite=Rewrite)
    cpdef to_message(self, Reply reply=*)
    @cython.locals(twin=Request)
    cpdef copy(self)
