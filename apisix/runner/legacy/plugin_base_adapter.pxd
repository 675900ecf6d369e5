# SPDX-License-Identifier: Apache-2.0
# C declarations for `plugin_base_adapter.py`. Only Cython reads this file.

from apisix.runner.legacy.edits cimport refuse_awaitable
