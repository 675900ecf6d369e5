# SPDX-License-Identifier: Apache-2.0
# C declarations for `base_adapter.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.legacy.decision cimport Decision
from apisix.runner.legacy.edits cimport check_body, given_mapping, given_number, read_back, refuse_awaitable, warn_once
from apisix.runner.legacy.header_dict cimport header_dict, with_values
from apisix.runner.http.reply cimport Reply
from apisix.runner.http.request cimport Request

cdef object _UNTOUCHED

cdef class BaseRequest:
    cdef dict __dict__
    cdef Request _request
    cdef list _pairs
    cdef object _headers
    cdef object _args
    cdef list _received_args
    cdef dict _assigned
    cpdef list received_headers(self)
    cpdef follow(self, BaseRequest earlier)
    cdef _unless_assigned(self, name, received)
    cdef _assign(self, name, value)

cdef class BaseResponse:
    cdef object _path
    cdef object _body
    cdef object _status_code
    cdef object _headers
    cdef object _args
    cdef BaseResponse _earlier
    @cython.locals(other=BaseResponse)
    cpdef BaseResponse copy(self)
    @cython.locals(earlier=BaseResponse)
    cpdef rewrite(self, Request request, BaseRequest seen, str plugin)
    cpdef Reply reply(self)

@cython.locals(seen=BaseRequest)
cpdef BaseRequest base_request(Request request)
@cython.locals(response=BaseResponse)
cpdef BaseResponse base_response()
@cython.locals(seen=BaseRequest, response=BaseResponse)
cpdef tuple shared_objects(Request request)
@cython.locals(earlier=BaseResponse)
cpdef list ignored_edits(BaseRequest seen, BaseResponse response)
cdef bint _has_unsent(shown, list received, sent) except -1
@cython.locals(decision=Decision)
cdef Reply run_base(plugin, str name, Request request, BaseRequest seen, BaseResponse response)
