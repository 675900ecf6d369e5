# SPDX-License-Identifier: Apache-2.0
# What `hooks.py` calls in C. Only the accelerator reads this file.

from apisix.runner.http.legacy cimport base_request, base_response
from apisix.runner.http.legacy_core cimport core_request, core_response
from apisix.runner.plugin cimport twins

cpdef refuse_awaitable(result)
