# SPDX-License-Identifier: Apache-2.0
# C declarations for `plugin_base_request.py`. Only Cython reads this file.

from apisix.runner.legacy.edits cimport (
    GivenDict, given_body, given_mapping, given_number, given_text, last_value, set_entry, warn_once,
)
