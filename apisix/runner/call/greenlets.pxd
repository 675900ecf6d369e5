# SPDX-License-Identifier: Apache-2.0
# C declarations for `greenlets.py`. Only Cython reads this file.

from apisix.runner.call.resumable cimport Resumable

cdef class CallGreenlet:
    cdef object _hub
    cdef object _greenlet
    cdef bint _closed
    cdef readonly bint active
    cdef run(self, Resumable call)
    cdef wait(self)
    cdef resume(self)
    cdef bint is_current(self) except -1
    cpdef close(self)
    cpdef _serve(self, Resumable call)
