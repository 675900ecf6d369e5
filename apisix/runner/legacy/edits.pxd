# SPDX-License-Identifier: Apache-2.0
# C declarations for `edits.py`. Only Cython reads this file.

from apisix.runner cimport primitives
from apisix.runner.legacy.header_dict cimport HeaderDict, header_dict

cpdef warn_once(str plugin, str what, str reported_as=*)
cpdef read_back(entries, given, list shown, str plugin, bint deletes=*)
cpdef set_value(entries, name, value, str plugin)
cpdef last_value(entries, name)
cpdef bint set_entry(entries, GivenDict given, name, value, str plugin) except -1
cpdef str given_text(str what, value)
cpdef str given_value(str kind, name, value)
cpdef given_mapping(str what, value)
cpdef bytes given_body(body)
cpdef check_body(body)
cpdef given_number(str what, value)
cpdef refuse_awaitable(result)

cdef class GivenDict:
    cdef object _entries
    cdef list _pairs
    cdef bint _is_headers
    cdef bint _deletes
    cdef str _plugin
    cdef readonly object shown
    cpdef set(self, name, value)
    cpdef replace(self, values)
    cpdef read_back(self)
