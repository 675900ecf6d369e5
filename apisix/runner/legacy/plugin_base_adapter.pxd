# SPDX-License-Identifier: Apache-2.0
# C declarations for `plugin_base_adapter.py`. Only Cython reads this file.

cimport cython

from apisix.runner.http.reply cimport Reply
from apisix.runner.http.request cimport Request
from apisix.runner.legacy.edits cimport refuse_awaitable
from apisix.runner.legacy.plugin_base_request cimport PluginBaseRequest, plugin_base_request, shared_request
from apisix.runner.legacy.plugin_base_response cimport PluginBaseResponse, plugin_base_response

@cython.locals(response=PluginBaseResponse, reply=Reply)
cdef Reply run_plugin_base(configure, str name, Request request, PluginBaseRequest seen)
