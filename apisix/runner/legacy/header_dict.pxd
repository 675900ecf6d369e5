# SPDX-License-Identifier: Apache-2.0
# C declarations for `header_dict.py`. Only Cython reads this file.

cimport cython


from apisix.runner cimport primitives
cdef class HeaderDict(dict):
    cdef dict _spellings
    cdef _key(self, name)

@cython.locals(headers=HeaderDict)
cpdef HeaderDict header_dict(list pairs)

cpdef list with_values(headers)

cdef _lower(name)
