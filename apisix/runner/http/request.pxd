# SPDX-License-Identifier: Apache-2.0
# The class of `request.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http.exchange cimport Exchange
from apisix.runner.http.reply cimport Reply, stop_message
from apisix.runner.http.overlay cimport Overlay
from apisix.runner.wire.calls cimport HTTPReqCallReq, HTTPReqCallResp, Rewrite

cdef class Request(Exchange):
    cdef HTTPReqCallReq _message
    cdef object _phase
    cdef object _route_key
    cdef Overlay _headers
    cdef Overlay _args
    cdef object _response_headers
    cdef object _path
    cpdef tuple mark(self)
    cpdef bint reply_might_ask(self) except -1
    cpdef to_message(self, Reply reply=*)
    @cython.locals(twin=Request)
    cpdef copy(self)
