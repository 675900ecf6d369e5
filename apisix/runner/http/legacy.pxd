# SPDX-License-Identifier: Apache-2.0
# The classes of `legacy.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http.dicts cimport header_dict, read_back, with_values
from apisix.runner.http.reply cimport Reply
from apisix.runner.http.request cimport Request

cdef object _UNTOUCHED

cdef class BaseRequest:
    cdef Request _request
    cdef list _pairs
    cdef object _headers
    cdef object _args
    cdef dict _assigned
    cpdef list came_headers(self)
    cdef _unless_assigned(self, name, came)
    cdef _assign(self, name, value)

cdef class BaseResponse:
    cdef public object path
    cdef public object body
    cdef public object status_code
    cdef object _headers
    cdef object _args
    cpdef rewrite(self, Request request, BaseRequest seen)
    cpdef Reply reply(self)

@cython.locals(seen=BaseRequest)
cpdef BaseRequest base_request(Request request)
@cython.locals(response=BaseResponse)
cpdef BaseResponse base_response()
