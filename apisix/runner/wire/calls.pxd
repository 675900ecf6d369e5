# SPDX-License-Identifier: Apache-2.0
# The classes and types of `calls.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.wire cimport flatbuf, scalars, tables
from apisix.runner.wire.entries cimport EntriesInBuffer, TextEntries
from apisix.runner.wire.tables cimport Message, Table

cdef class HTTPReqCallReq(Message):
    cdef public object id
    cdef public object method
    cdef public object conf_token
    cdef bytes _buf
    cdef Py_ssize_t _table
    cdef tuple _fields
    cdef object _src_ip
    cdef object _path
    cdef TextEntries _args
    cdef TextEntries _headers
    @cython.locals(table=Py_ssize_t, fields=tuple, id=Py_ssize_t, method=Py_ssize_t, conf_token=Py_ssize_t, number=Py_ssize_t)
    cpdef _read(self, bytes payload)
    cpdef tuple _values(self)

cdef class Stop(Table):
    cdef public object status
    cdef public TextEntries headers
    cdef public object body
    cpdef tuple _values(self)

cdef class Rewrite(Table):
    cdef public object path
    cdef public TextEntries headers
    cdef public TextEntries args
    cdef public TextEntries resp_headers
    cdef public object body
    cpdef tuple _values(self)

cdef class HTTPReqCallResp(Message):
    cdef public object id
    cdef public object action
    @cython.locals(parts=list, header=bytes)
    cpdef bytes encode_frame(self)
    cpdef tuple _values(self)

cdef class HTTPRespCallReq(Message):
    cdef public object id
    cdef public object status
    cdef public object conf_token
    cdef bytes _buf
    cdef Py_ssize_t _table
    cdef Py_ssize_t _headers_at
    cdef TextEntries _headers
    @cython.locals(table=Py_ssize_t, id=Py_ssize_t, status=Py_ssize_t, conf_token=Py_ssize_t)
    cpdef _read(self, bytes payload)
    cpdef tuple _values(self)

cdef class HTTPRespCallResp(Message):
    cdef public object id
    cdef public object status
    cdef public TextEntries headers
    cdef public object body
    cpdef tuple _values(self)
