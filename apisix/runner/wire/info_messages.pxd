# SPDX-License-Identifier: Apache-2.0
# C declarations for `info_messages.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.wire.tables cimport Message

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

@cython.locals(self=ExtraInfoResp)
cpdef ExtraInfoResp read_extra_info_resp(bytes payload)
