# SPDX-License-Identifier: Apache-2.0
# C declarations for connection_handler.py. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.call.engine cimport CallRunner
from apisix.runner.call.reply_sink cimport ReplySink
from apisix.runner.wire.call_messages cimport CallReq
from apisix.runner.wire.connection cimport Connection
from apisix.runner.wire.frames cimport FrameDecoder
from apisix.runner.wire.info_messages cimport ExtraInfoResp
from apisix.runner.wire.tables cimport Message

cdef bytearray _BUFFER

cdef class ConnectionHandler(ReplySink):
    cdef ConnectionHandlers _handlers
    cdef Connection _connection
    cdef CallRunner _call_runner
    cdef object _socket
    cdef int _descriptor
    cdef bytearray _unsent
    cdef bint _ending
    cdef bint _held
    cpdef watch(self, bint reading, bint writing)
    @cython.locals(connection=Connection, buffer=bytearray, size=Py_ssize_t, data=bytes)
    cdef _read(self)
    @cython.locals(connection=Connection, decoder=FrameDecoder)
    cdef _handle(self)
    @cython.locals(sent=Py_ssize_t)
    cpdef _write(self, bytearray data)

cdef class ConnectionHandlers:
    cdef readonly object loop
    cdef readonly object base_context
    cdef readonly set _open
    cdef readonly object context
    cdef public object on_idle
    cdef public object on_activity
