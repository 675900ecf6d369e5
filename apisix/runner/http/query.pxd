# SPDX-License-Identifier: Apache-2.0
# C declarations for `query.py`. Only Cython reads this file.

from apisix.runner.http.header_rules cimport check_text
from apisix.runner.http.mutable_multidict_view cimport MutableMultidictView
from apisix.runner cimport primitives

cdef class Args(MutableMultidictView):
    cdef _check(self, key, value)
