# SPDX-License-Identifier: Apache-2.0
# C declarations for `reply.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.http.header_rules cimport check_headers, has_header, sendable_headers
from apisix.runner.http.headers cimport Headers
from apisix.runner.wire.call_messages cimport HTTPReqCallResp, HTTPRespCallResp, Stop
from apisix.runner.wire.entries cimport entries_of

cdef class Reply(Exception):
    cdef object _status
    cdef bytes _body
    cdef Headers _headers
    cdef list _pairs
    cdef bint _has_framing
    cpdef list sendable(self)

cpdef checked_status(status)
@cython.locals(stop=Stop, message=HTTPReqCallResp)
cpdef HTTPReqCallResp stop_message(call_id, Reply reply)
cpdef HTTPRespCallResp replacement_message(call_id, Reply reply)
cdef bytes _bytes_of(body)
cdef list _pairs_of(headers)
