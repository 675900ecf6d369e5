# SPDX-License-Identifier: Apache-2.0
# C declarations for `flatbuf.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives

cpdef Py_ssize_t root_table(bytes buf) except -1
@cython.locals(at=Py_ssize_t)
cpdef Py_ssize_t u8_field(bytes buf, Py_ssize_t table, Py_ssize_t slot) except -1
@cython.locals(at=Py_ssize_t)
cpdef Py_ssize_t u16_field(bytes buf, Py_ssize_t table, Py_ssize_t slot) except -1
@cython.locals(at=Py_ssize_t)
cpdef Py_ssize_t u32_field(bytes buf, Py_ssize_t table, Py_ssize_t slot) except -1
@cython.locals(at=Py_ssize_t)
cpdef Py_ssize_t table_field(bytes buf, Py_ssize_t table, Py_ssize_t slot) except -1
@cython.locals(at=Py_ssize_t)
cpdef bytes bytes_field(bytes buf, Py_ssize_t table, Py_ssize_t slot)
@cython.locals(at=Py_ssize_t)
cpdef str text_field(bytes buf, Py_ssize_t table, Py_ssize_t slot)

@cython.locals(slots=Py_ssize_t, begin=Py_ssize_t, starts=list, vtable_at=Py_ssize_t, pos=Py_ssize_t, present=Py_ssize_t, bit=Py_ssize_t, start=Py_ssize_t)
cpdef put_table(bytearray out, tuple fields)
