# SPDX-License-Identifier: Apache-2.0
# C declarations for `message.py`. Only Cython reads this file.

cimport cython

from apisix.runner.http.info_requests cimport InfoReplies
from apisix.runner.http.reply cimport Reply

cdef class HTTPMessage:
    cdef object _io
    cdef InfoReplies _replies
    cdef dict _context
    cdef bytes _body
    cdef _begin(self, io)
    cpdef tuple mark(self)
    cpdef copy(self)
    cpdef bint reply_may_need_info(self) except -1
    cpdef to_message(self, Reply reply=*)
    cdef _body_info(self)
    cdef _content_length(self)
    cdef bytes _received_body(self)
    cdef bytes _plain(self, accessor)
    @cython.locals(replies=InfoReplies, body=bytes)
    cdef bytes _raw(self, accessor)
    @cython.locals(replies=InfoReplies)
    cpdef end_metadata(self, bint is_last)
    @cython.locals(replies=InfoReplies)
    cdef InfoReplies _begin_body(self)
    cdef bint _may_be_withheld(self) except -1
    cdef list _missing(self, needs)
    @cython.locals(replies=InfoReplies)
    cdef InfoReplies _info_replies(self)
