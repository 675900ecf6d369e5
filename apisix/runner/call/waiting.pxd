# SPDX-License-Identifier: Apache-2.0
# C declarations for `waiting.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.call.blocking.detector cimport BlockingDetector
from apisix.runner.call.deadlines cimport Deadlines
from apisix.runner.call.greenlets cimport CallGreenlet
from apisix.runner.call.info_channel cimport InfoChannel, InfoRequests
from apisix.runner.call.resumable cimport Resumable
from apisix.runner.call.runtime cimport Runtime
from apisix.runner.wire.call_messages cimport CallReq

# The states are used in each call, and by this extension module alone.
cdef int RECEIVED
cdef int RUNNING
cdef int SUSPENDED
cdef int NEEDS_GREENLET
cdef int FINISHED

cdef class WaitingCall(Resumable):
    cdef readonly int state
    cdef public Py_ssize_t id
    cdef readonly CallReq message
    cdef readonly object context
    cdef public object route_key
    cdef public object plugin
    cdef readonly double began_s
    cdef readonly double suspended_s
    cdef Runtime _runtime
    cdef CallGreenlet _greenlet
    cdef InfoChannel _channel
    cdef bint _counted
    cdef object _failure
    cdef bint _failure_raised
    cdef object _waits_for
    cdef bint _in_greenlet
    cdef object _job
    cdef object _thread_wakeup
    cdef Py_ssize_t _open_info_requests
    cdef double _info_since_s
    cdef double _info_s
    cdef begin(self, CallReq message, context, Runtime runtime, CallGreenlet call_greenlet, InfoChannel channel)
    cpdef run(self)
    cpdef advance(self)
    cpdef place_outside(self)
    cdef run_in_context(self)
    @cython.locals(sent=InfoRequests)
    cpdef request_info(self, requests)
    cdef _refuse_old_gateway(self, requests)
    cdef InfoRequests _send(self, requests, done)
    @cython.locals(sent=InfoRequests)
    cdef info_received(self, requests)
    cpdef start_task(self, awaitable)
    cdef bint was_suspended(self) except -1
    cpdef suspend_for_task(self, task)
    cpdef suspend_for_thread(self, function, argument)
    cpdef result_of(self, waited_for)
    cpdef check(self)
    cdef _suspend(self, waits_for)
    @cython.locals(suspended_at_s=double, detector=BlockingDetector)
    cdef _wait_in_greenlet(self, waits_for)
    cpdef wake(self, waits_for)
    cdef stop_waiting(self)
