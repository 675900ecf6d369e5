# SPDX-License-Identifier: Apache-2.0
# The class of `response.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http.exchange cimport Exchange
from apisix.runner.http.reply cimport Reply, replacement_message
from apisix.runner.http.overlay cimport Overlay
from apisix.runner.wire.call_messages cimport HTTPRespCallReq, HTTPRespCallResp, resp_call_resp
from apisix.runner.wire.entries cimport TextEntries, entries_of

cdef dict _HOP_BY_HOP
cdef dict _HOP_BY_HOP_AND_LENGTH

cdef class Response(Exchange):
    cdef HTTPRespCallReq _message
    cdef object _phase
    cdef object _route_key
    cdef Overlay _headers
    cdef Py_ssize_t _max_decompressed_bytes
    cdef long _status
    cpdef tuple mark(self)
    cpdef to_message(self, Reply reply=*)
    @cython.locals(twin=Response)
    cpdef copy(self)
    @cython.locals(came=TextEntries, complete=TextEntries)
    cdef TextEntries _complete_headers(self)
