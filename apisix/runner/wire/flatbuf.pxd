# SPDX-License-Identifier: Apache-2.0
# The types of `flatbuf.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.wire cimport scalars

cpdef Py_ssize_t read_root(bytes buf) except -1
@cython.locals(vtable=Py_ssize_t, fields=tuple)
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
cpdef tuple read_vector(bytes buf, Py_ssize_t pos)

cpdef bytes encode_text(text)
@cython.locals(size=Py_ssize_t)
cpdef Py_ssize_t put_bytes(list parts, data) except -1
@cython.locals(size=Py_ssize_t, data=bytes)
cpdef Py_ssize_t put_text(list parts, text) except -1
@cython.locals(
    slots=Py_ssize_t, vtables=list, table_at=Py_ssize_t, words=list, end=Py_ssize_t, present=Py_ssize_t, size=Py_ssize_t,
    bit=Py_ssize_t, added=Py_ssize_t,
)
cpdef Py_ssize_t put_table(list parts, tuple fields) except -1
