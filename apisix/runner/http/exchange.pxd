# SPDX-License-Identifier: Apache-2.0
# The class of `exchange.py` in C. Only the accelerator reads this file.

from apisix.runner.http.info_requests cimport Answers
from apisix.runner.http.reply cimport Reply

cdef class Exchange:
    cdef object _asking
    cdef Answers _answers
    cdef dict _context
    cdef bytes _body
    cdef _begin(self, asking)
    cpdef tuple mark(self)
    cpdef bint reply_might_ask(self) except -1
    cpdef to_message(self, Reply reply=*)
    cpdef copy(self)
