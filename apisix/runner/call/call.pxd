# SPDX-License-Identifier: Apache-2.0
# The classes of `call.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.call.chain_cache cimport CachedChain
from apisix.runner.call.runtime cimport Runtime
from apisix.runner.http.exchange cimport Exchange
from apisix.runner.wire.call_messages cimport CallReq

cdef class Call

cdef class Questions:
    cdef public Call call
    cdef public Py_ssize_t missing
    cdef public object done
    cdef public list answers
    cdef public object sent

@cython.freelist(8)
cdef class Call:
    cdef public Py_ssize_t id
    cdef readonly CallReq message
    cdef readonly object context
    cdef public CachedChain prepared
    cdef public Exchange exchange
    cdef public Py_ssize_t position
    cdef public object pending
    cdef public object route_key
    cdef public object plugin
    cdef public object request_id
    cdef readonly double began_s
    cdef public double suspended_s
    cdef public bint gave_up
    cdef object _call_runner
    cdef Runtime _runtime
    cdef bint _counted
    cdef object _failure
    cdef object _job
    cdef object _thread_wakeup
    cdef object _waits_for
    cdef bint _over
    cdef Py_ssize_t _open_questions
    cdef double _asking_since_s
    cdef double _asked_s
    cpdef answered(self, Questions asked)
    cpdef check(self)
    cpdef check_swallowed(self)
    cpdef finish(self)

@cython.locals(self=Call)
cpdef Call new_call(runner, Runtime runtime, CallReq message, context)
