# SPDX-License-Identifier: Apache-2.0
# C declarations for `plugin_base_response.py`. Only Cython reads this file.

from apisix.runner.legacy.edits cimport given_body, given_mapping, given_number, given_text, warn_once
