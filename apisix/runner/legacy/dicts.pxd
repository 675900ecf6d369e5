# SPDX-License-Identifier: Apache-2.0
# The classes of `dicts.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http cimport texts
from apisix.runner.legacy cimport raw_dict

cdef class HeaderDict(dict):
    cdef dict _spellings
    cdef _key(self, name)

@cython.locals(headers=HeaderDict)
cpdef HeaderDict header_dict(list pairs)

cpdef read_back(entries, given, list shown, bint deletes=*)
cpdef list with_values(headers)
cdef _set(entries, name, value)
cpdef last_value(entries, name)
cpdef bint set_entry(entries, GivenDict given, name, value) except -1
cpdef str given_text(str what, value)
cpdef given_mapping(str what, value)
cpdef bytes given_body(body)
cpdef given_number(str what, value)

cdef class GivenDict:
    cdef object _entries
    cdef list _pairs
    cdef bint _is_headers
    cdef bint _deletes
    cdef readonly object shown
    cpdef set(self, name, value)
    cpdef replace(self, values)
    cpdef read_back(self)

cdef _lower(name)
