# SPDX-License-Identifier: Apache-2.0
# The classes of `legacy_core.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.legacy.dicts cimport (
    GivenDict, HeaderDict, given_body, given_mapping, given_number, given_text, header_dict, last_value, set_entry, with_values,
)
from apisix.runner.http.fields cimport check_header
from apisix.runner.http.reply cimport Reply
from apisix.runner.http.request cimport Request

cdef class PluginBaseRequest:
    cdef dict __dict__
    cdef Request _request
    cdef object _configs
    cdef GivenDict _headers
    cdef GivenDict _args
    cdef dict _local
    cpdef apply(self)
    cpdef follow(self, PluginBaseRequest earlier)
    cdef _kept(self, name, came)
    cdef _keep(self, name, value)
    cdef _keep_and_warn(self, name, value)

cdef class PluginBaseResponse:
    cdef object _req_id
    cdef Request _request
    cdef HeaderDict _headers
    cdef object _body
    cdef object _status_code
    cpdef bint changed(self)
    cpdef Reply reply(self)

@cython.locals(seen=PluginBaseRequest)
cpdef PluginBaseRequest core_request(Request request, configs)
@cython.locals(response=PluginBaseResponse)
cpdef PluginBaseResponse core_response(Request request)
@cython.locals(seen=PluginBaseRequest)
cpdef PluginBaseRequest next_core_request(Request request, configs)
