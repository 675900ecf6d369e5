# SPDX-License-Identifier: Apache-2.0
# C declarations for `trace.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.http.message cimport HTTPMessage
from apisix.runner.http.reply cimport Reply
from apisix.runner.plugin.chain.chain cimport Chain, ChainStep
from apisix.runner.wire.call_messages cimport CallReq

cdef class StepTrace:
    cdef public ChainStep step
    cdef public double began_s
    cdef public double took_s
    cdef public HTTPMessage before
    cdef public HTTPMessage after
    cdef public object stopped
    cdef public object error
    cdef public object span_id
    cdef public object metadata_before
    cdef public object metadata_after

cdef class CallTrace:
    cdef list _listeners
    cdef public object call_id
    cdef public CallReq message
    cdef public Chain chain
    cdef public double began_s
    cdef public double ended_s
    cdef public double time_s
    cdef public HTTPMessage http_message
    cdef public list steps
    cdef public list info
    cdef public list logs
    cdef public object metadata
    cdef public object reply
    cdef public object error
    cdef public object trace_id
    cdef public bint watches_hooks
    @cython.locals(trace=StepTrace)
    cdef step_begins(self, ChainStep step, HTTPMessage http_message, HTTPMessage before, double now_s)
    @cython.locals(trace=StepTrace)
    cdef step_ended(self, Reply reply, error, double took_s)
    cdef failed(self, error)
    cdef ended(self, reply)

cdef class CallListener:
    cdef public Py_ssize_t skip

cdef class CallObserver:
    cdef readonly tuple listeners
    cdef readonly bint watch_hooks
    @cython.locals(listener=CallListener)
    cdef CallTrace begin(self, CallReq message, Chain chain, double began_s)

cdef class TracedIO:
    cdef object _call
    cdef CallTrace _trace
