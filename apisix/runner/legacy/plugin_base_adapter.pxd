# SPDX-License-Identifier: Apache-2.0
# C declarations for `plugin_base_adapter.py`. Only Cython reads this file.

cimport cython

from apisix.runner.legacy.edits cimport (
    GivenDict, given_body, given_mapping, given_number, given_text, last_value, refuse_awaitable, set_entry, warn_once,
)
