# SPDX-License-Identifier: Apache-2.0
# C declarations for `reply_sink.py`. Only Cython reads this file.

from apisix.runner.wire.tables cimport Message

cdef class ReplySink:
    cpdef send(self, Message message)
    cpdef send_all(self, messages)
    cpdef give_up(self, reason)
    cpdef broken(self, error)
