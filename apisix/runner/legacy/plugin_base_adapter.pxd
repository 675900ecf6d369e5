# SPDX-License-Identifier: Apache-2.0
# C declarations for `plugin_base_adapter.py`. Only Cython reads this file.

cimport cython

from apisix.runner.legacy.edits cimport (
    GivenDict, given_body, given_mapping, given_number, given_text, last_value, refuse_awaitable, set_entry, warn_once,
)
from apisix.runner.legacy.header_dict cimport HeaderDict, header_dict, with_values
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
    cdef str _plugin
    cpdef apply(self)
    cpdef follow(self, PluginBaseRequest earlier)
    cdef _kept(self, name, came)
    cdef _keep(self, name, value)
    cdef _keep_and_warn(self, name, value)

cdef class PluginBaseResponse:
    cdef str _plugin
    cdef object _req_id
    cdef Request _request
    cdef HeaderDict _headers
    cdef object _body
    cdef object _status_code
    cpdef bint changed(self)
    cpdef Reply reply(self)

@cython.locals(seen=PluginBaseRequest)
cpdef PluginBaseRequest plugin_base_request(Request request, configs, str plugin)
@cython.locals(response=PluginBaseResponse)
cpdef PluginBaseResponse plugin_base_response(Request request, str plugin)
@cython.locals(seen=PluginBaseRequest)
cpdef PluginBaseRequest shared_request(Request request, configs, str plugin)
