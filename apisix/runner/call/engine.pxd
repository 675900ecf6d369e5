# SPDX-License-Identifier: Apache-2.0
# C declarations for `engine.py`. Only Cython reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.call.blocking.detector cimport BlockingDetector
from apisix.runner.call.chain_cache cimport CachedChain, ChainCache
from apisix.runner.call.greenlets cimport CallGreenlet
from apisix.runner.call.info_channel cimport InfoChannel
from apisix.runner.call.observing.recorder cimport StepRecorder
from apisix.runner.call.observing.trace cimport CallObserver, CallTrace
from apisix.runner.call.reply_sink cimport ReplySink
from apisix.runner.call.runtime cimport Runtime
from apisix.runner.call.waiting cimport WaitingCall
from apisix.runner.http.message cimport HTTPMessage
from apisix.runner.http.reply cimport Reply
from apisix.runner.http.request cimport Request
from apisix.runner.http.response cimport Response
from apisix.runner.plugin.chain.chain cimport Chain, ChainStep
from apisix.runner.wire.call_messages cimport CallReq, HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallReq, HTTPRespCallResp
from apisix.runner.wire.tables cimport Message

cdef class Call

cdef class CallRunner:
    cdef Runtime _runtime
    cdef ReplySink _sink
    cdef CallGreenlet _greenlet
    cdef InfoChannel _channel
    cdef object _context
    cdef Call _call
    cdef bint _closed
    cdef readonly bint busy
    @cython.locals(call=Call)
    cpdef start(self, CallReq message)
    cpdef receive_info(self, result)
    cdef finish(self, Call call, reply)
    cdef break_connection(self, error)
    cdef _replace_reply(self, Call call, error)

@cython.final
cdef class Call(WaitingCall):
    cdef public HTTPMessage http_message
    cdef public object request_id
    cdef readonly CallTrace trace
    cdef CallRunner _runner
    cdef CachedChain _cached
    cdef tuple _steps
    cdef Py_ssize_t _position
    cdef ChainStep _step
    cdef bint _hook_began
    cdef object _awaited
    cdef Reply _reply
    cdef HTTPMessage _before
    cdef StepRecorder _recorder
    cdef _run_chain(self)
    @cython.locals(step=ChainStep)
    cdef _take_result(self)
    cdef _await(self, awaitable)
    @cython.locals(
        message=CallReq, is_response=bint, cached=CachedChain, chain=Chain, observer=CallObserver, trace=CallTrace, is_watched=bint
    )
    cdef _acquire_chain(self)
    @cython.locals(is_blocking=bint, may_wait_inside=bint, http_message=HTTPMessage)
    cdef _run_step(self, ChainStep step)
    @cython.locals(http_message=HTTPMessage)
    cdef _begin_step(self, ChainStep step)
    @cython.locals(detector=BlockingDetector, suspended_s=double, began_s=double, now_s=double, blocked_s=double)
    cdef _call_hook(self, ChainStep step, HTTPMessage http_message)
    cdef _hook_returned(self, ChainStep step, result)
    cdef _end_hook(self, ChainStep step, result)
    @cython.locals(http_message=HTTPMessage)
    cdef _encode_reply(self)
    cdef _finish(self, reply)
    @cython.locals(step=ChainStep)
    cdef _decide(self, error)
    cdef _fail_step(self, ChainStep step, error)
    cdef _fail_metadata(self, error)
    cdef _refuse(self, error, on_error)

@cython.locals(self=Call)
cdef Call new_call(CallRunner runner, Runtime runtime, CallReq message)
