# SPDX-License-Identifier: Apache-2.0
# C declarations for `plugin_base_request.py`. Only Cython reads this file.

cimport cython

from apisix.runner.http.request cimport Request
from apisix.runner.legacy.edits cimport (
    GivenDict, given_body, given_mapping, given_number, given_text, given_value, last_value, set_entry, warn_once,
)

cdef class PluginBaseRequest:
    cdef dict __dict__
    cdef Request _request
    cdef object _configs
    cdef str _plugin
    cdef GivenDict _headers
    cdef GivenDict _args
    cdef dict _local
    cpdef apply(self)
    cpdef follow(self, PluginBaseRequest earlier)
    cpdef release(self)
    cdef _kept(self, str name, received)
    cdef _keep(self, str name, value)
    cdef bint _keep_and_warn(self, str name, value) except -1

@cython.locals(seen=PluginBaseRequest)
cpdef PluginBaseRequest plugin_base_request(Request request, configs, str plugin)
@cython.locals(seen=PluginBaseRequest)
cpdef PluginBaseRequest shared_request(Request request, configs, str plugin)
