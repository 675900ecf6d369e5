# SPDX-License-Identifier: Apache-2.0
# C declarations for `plugin_base_response.py`. Only Cython reads this file.

cimport cython

from apisix.runner.http.header_rules cimport check_header
from apisix.runner.http.reply cimport Reply
from apisix.runner.http.request cimport Request
from apisix.runner.legacy.edits cimport check_body, given_mapping, given_number, given_text, given_value, warn_once
from apisix.runner.legacy.header_dict cimport HeaderDict, header_dict, with_values

cdef class PluginBaseResponse:
    cdef str _plugin
    cdef object _req_id
    cdef Request _request
    cdef HeaderDict _headers
    cdef object _body
    cdef object _status_code
    cpdef bint changed(self) except -1
    cpdef Reply reply(self)

@cython.locals(response=PluginBaseResponse)
cpdef PluginBaseResponse plugin_base_response(Request request, str plugin)
