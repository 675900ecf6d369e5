# SPDX-License-Identifier: Apache-2.0
# The types of `flatbuf.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.wire cimport scalars

cpdef Py_ssize_t read_root(bytes buf) except -1
cdef list _SEEN
@cython.locals(vtable=Py_ssize_t, fields=tuple, seen=bytes)
cpdef tuple read_fields(bytes buf, Py_ssize_t table, Py_ssize_t slots)
@cython.locals(vtable=Py_ssize_t, size=Py_ssize_t, present=Py_ssize_t, fields=tuple)
cdef tuple _read_other_fields(bytes buf, Py_ssize_t table, Py_ssize_t slots)
cpdef Py_ssize_t read_u8(bytes buf, Py_ssize_t pos) except -1
cpdef Py_ssize_t read_u16(bytes buf, Py_ssize_t pos) except -1
cpdef Py_ssize_t read_u32(bytes buf, Py_ssize_t pos) except -1
cpdef Py_ssize_t read_table(bytes buf, Py_ssize_t pos) except -1
@cython.locals(start=Py_ssize_t, end=Py_ssize_t)
cpdef bytes read_bytes(bytes buf, Py_ssize_t pos)
cpdef str read_text(bytes buf, Py_ssize_t pos)
@cython.locals(start=Py_ssize_t, count=Py_ssize_t)
cpdef (Py_ssize_t, Py_ssize_t) read_vector(bytes buf, Py_ssize_t pos) except *

cdef list _VTABLES

cpdef put_bytes(bytearray out, data)
@cython.locals(slots=Py_ssize_t, vtables=list, vtable_at=Py_ssize_t, pos=Py_ssize_t, present=Py_ssize_t, bit=Py_ssize_t, start=Py_ssize_t)
cpdef put_table(bytearray out, tuple fields)
