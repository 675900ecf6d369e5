# SPDX-License-Identifier: Apache-2.0
# The classes of `questions.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.wire.flatbuf cimport put_table, read_fields, read_root, read_table, read_u8
from apisix.runner.wire.tables cimport Message, optional_bytes, optional_text

cdef class Var:
    cdef readonly object name

cdef class ReqBody:
    pass

cdef class RespBody:
    pass

cdef class ExtraInfoReq(Message):
    cdef readonly object info
    cpdef bytearray encode_frame(self)
    cpdef tuple _values(self)

cdef class ExtraInfoResp(Message):
    cdef readonly object result
    cpdef tuple _values(self)

@cython.locals(self=ExtraInfoResp, table=Py_ssize_t)
cpdef ExtraInfoResp read_extra_info_resp(bytes payload)
