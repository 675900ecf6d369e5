# SPDX-License-Identifier: Apache-2.0
# The class of `conversation.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.call.call cimport Call, Questions, new_call
from apisix.runner.call.execution cimport execute
from apisix.runner.call.reply_sink cimport ReplySink
from apisix.runner.call.runtime cimport Runtime
from apisix.runner.wire.call_messages cimport CallReq

cdef class CallRunner:
    cdef public object hub
    cdef readonly object greenlet
    cdef readonly Call call
    cdef Runtime _runtime
    cdef ReplySink _peer
    cdef object _asked
    cdef bint _closed
    cdef object _context
    cpdef start(self, CallReq message)
    @cython.locals(asked=Questions)
    cpdef receive_info(self, result)
    cpdef bint _run(self, Call call, bint can_wait) except -1
    cdef _refuse_reply(self, Call call, error)
