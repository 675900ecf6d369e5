# SPDX-License-Identifier: Apache-2.0
# The classes of `session.py` in C. Only the accelerator reads this file.

from apisix.runner.call.conversation cimport Conversation
from apisix.runner.wire.calls cimport HTTPReqCallReq, HTTPRespCallReq
from apisix.runner.wire.connection cimport Connection

cdef class Session:
    cdef Sessions _sessions
    cdef object _context
    cdef Connection _connection
    cdef Conversation _conversation
    cdef object _transport

cdef class Sessions:
    cdef object _loop
    cdef readonly set _open
    cdef readonly object context
    cdef public object on_idle
