# SPDX-License-Identifier: Apache-2.0
# C declarations for `header_rules.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives

cpdef check_text(what, text)
cpdef check_header(name, value)
cdef list _DROPPED
@cython.locals(dropped=bint, name=object, size=Py_ssize_t, known=str)
cpdef bint check_headers(list headers) except -1
@cython.locals(found=bint, name=object)
cpdef bint has_header(list headers, str wanted) except -1
cpdef list sendable_headers(headers, drop=*)
