# SPDX-License-Identifier: Apache-2.0
# C declarations for `call_messages.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.wire.entries cimport TextEntries, entries_field, entries_of
from apisix.runner.wire.frames cimport put_header
from apisix.runner.wire.tables cimport Message, Table

cdef long _HTTP_REQ_CALL
cdef long _HTTP_RESP_CALL
cdef Py_ssize_t _ID_AT

cdef class CallReq(Message):
    cdef public Py_ssize_t id
    cdef public Py_ssize_t conf_token

@cython.no_gc  # it refers to bytes and texts only
cdef class HTTPReqCallReq(CallReq):
    cdef public object method
    cdef bytes _buf
    cdef Py_ssize_t _table
    cdef object _src_ip
    cdef object _path
    cdef TextEntries _args
    cdef TextEntries _headers
    @cython.locals(table=Py_ssize_t, number=Py_ssize_t)
    cpdef _read(self, bytes payload)
    cpdef TextEntries received_args(self)
    cpdef TextEntries received_headers(self)
    cpdef tuple _values(self)


cdef list _STOP_STARTS
cdef list _REWRITE_STARTS
cdef list _RESP_CALL_STARTS
cdef bytes _FRAME_START
cdef _status(status)
cdef _put_entries(bytearray out, Py_ssize_t place, TextEntries entries)
cdef _put_body(bytearray out, Py_ssize_t place, body)

cdef class Stop(Table):
    cdef public object status
    cdef public TextEntries headers
    cdef public object body
    @cython.locals(at=Py_ssize_t, has_headers=bint)
    cpdef put(self, bytearray out)

cdef class Rewrite(Table):
    cdef public object path
    cdef public TextEntries headers
    cdef public TextEntries args
    cdef public TextEntries resp_headers
    cdef public object body
    @cython.locals(at=Py_ssize_t, has_headers=bint, has_args=bint, has_resp_headers=bint, present=Py_ssize_t)
    cpdef put(self, bytearray out)

@cython.no_gc
cdef class HTTPReqCallResp(Message):
    cdef public object id
    cdef public Table action
    @cython.locals(out=bytearray)
    cpdef bytearray encode_frame(self)
    cpdef tuple _values(self)

cdef class HTTPRespCallReq(CallReq):
    cdef public object status
    cdef bytes _buf
    cdef Py_ssize_t _table
    cdef TextEntries _headers
    @cython.locals(table=Py_ssize_t)
    cpdef _read(self, bytes payload)
    cpdef TextEntries received_headers(self)
    cpdef tuple _values(self)

cdef class HTTPRespCallResp(Message):
    cdef public object id
    cdef public object status
    cdef public TextEntries headers
    cdef public object body
    @cython.locals(out=bytearray)
    cpdef bytearray encode_frame(self)
    @cython.locals(at=Py_ssize_t, has_headers=bint)
    cpdef put(self, bytearray out)

@cython.locals(self=HTTPRespCallResp)
cpdef HTTPRespCallResp resp_call_resp(id, status, TextEntries headers, body)
@cython.locals(self=HTTPReqCallReq)
cpdef HTTPReqCallReq read_req_call(bytes payload)
@cython.locals(self=HTTPRespCallReq)
cpdef HTTPRespCallReq read_resp_call(bytes payload)
