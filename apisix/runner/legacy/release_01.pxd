# SPDX-License-Identifier: Apache-2.0
# The classes of `legacy.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.legacy.dicts cimport given_body, given_mapping, given_number, header_dict, read_back, with_values
from apisix.runner.http.reply cimport Reply
from apisix.runner.http.request cimport Request

cdef object _UNTOUCHED

cdef class BaseRequest:
    cdef dict __dict__
    cdef Request _request
    cdef list _pairs
    cdef object _headers
    cdef object _args
    cdef list _came_args
    cdef dict _assigned
    cpdef list came_headers(self)
    cpdef follow(self, BaseRequest earlier)
    cdef _unless_assigned(self, name, came)
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
    cpdef rewrite(self, Request request, BaseRequest seen)
    cpdef Reply reply(self)

@cython.locals(seen=BaseRequest)
cpdef BaseRequest base_request(Request request)
@cython.locals(response=BaseResponse)
cpdef BaseResponse base_response()
@cython.locals(seen=BaseRequest, response=BaseResponse)
cpdef tuple next_base_exchange(Request request)
@cython.locals(earlier=BaseResponse)
cpdef list ignored_edits(BaseRequest seen, BaseResponse response)
