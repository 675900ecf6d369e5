# SPDX-License-Identifier: Apache-2.0
# The class of `conversation.py` in C. Only the accelerator reads this file.

from apisix.runner.call.call cimport Call

cdef class Conversation:
    cdef readonly object hub
    cdef readonly object greenlet
    cdef readonly Call call
    cdef object _runtime
    cdef object _send
    cdef object _send_all
    cdef object _broken
    cdef object _asked
    cdef bint _closed
    cdef object _context
    cpdef start(self, message)
    cpdef answer(self, result)
    cdef _reply(self, message, reply)
