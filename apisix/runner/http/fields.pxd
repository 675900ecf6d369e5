# SPDX-License-Identifier: Apache-2.0
# The functions of `fields.py` that each edit runs, in C. Only the accelerator reads this file.

from apisix.runner.wire cimport scalars

cpdef check_text(what, text)
cpdef check_header(name, value)
cpdef list sendable_headers(headers, drop=*)
