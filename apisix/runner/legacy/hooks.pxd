# SPDX-License-Identifier: Apache-2.0
# What `hooks.py` calls in C. Only the accelerator reads this file.

from apisix.runner.legacy.release_01 cimport base_request, base_response, ignored_edits, next_base_exchange
from apisix.runner.legacy.release_02 cimport core_request, core_response, next_core_request

cpdef refuse_awaitable(result)
