# SPDX-License-Identifier: Apache-2.0
# C declarations for `info_channel.py`. Only Cython reads this file.

cimport cython

from apisix.runner.call.reply_sink cimport ReplySink
from apisix.runner.call.resumable cimport Resumable

@cython.final
cdef class InfoRequests:
    cdef readonly Resumable call
    cdef readonly object requests
    cdef readonly object done
    cdef readonly list replies

cdef class InfoChannel:
    cdef ReplySink _sink
    cdef object _open
    cdef send(self, InfoRequests requests)
    @cython.locals(requests=InfoRequests)
    cpdef receive(self, result)
    @cython.locals(requests=InfoRequests)
    cpdef oldest(self)
    cpdef clear(self)
