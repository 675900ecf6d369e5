# SPDX-License-Identifier: Apache-2.0
# The functions of `execution.py` that each call runs, in C. Only the accelerator reads this file.

cimport cython

from apisix.runner cimport primitives
from apisix.runner.call.call cimport Call
from apisix.runner.call.chain_cache cimport CachedChain, ChainCache
from apisix.runner.plugin.chain cimport Chain, ChainStep
from apisix.runner.call.runtime cimport Runtime
from apisix.runner.call.blocking.detector cimport BlockingDetector
from apisix.runner.http.exchange cimport Exchange
from apisix.runner.http.reply cimport Reply
from apisix.runner.http.request cimport Request
from apisix.runner.http.response cimport Response
from apisix.runner.wire.call_messages cimport CallReq, HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallReq, HTTPRespCallResp
from apisix.runner.wire.tables cimport Message


@cython.locals(prepared=CachedChain, message=CallReq, effects=list, is_response=bint)
cpdef execute(Call call, Runtime runtime, bint can_wait)
@cython.locals(began_s=double, exchange=Exchange, before=Exchange, step=ChainStep, steps=tuple)
cdef _run_chain(Call call, Runtime runtime, bint can_wait, list effects)
cdef _reply_of(Call call, ChainStep step, result, bint can_wait)
cdef _run_step(Call call, Runtime runtime, ChainStep step, Exchange exchange, bint can_wait)
@cython.locals(began_s=double, took_s=double)
cdef _run_measured(meter, Call call, Runtime runtime, ChainStep step, Exchange exchange, bint can_wait)
@cython.locals(blocking_detector=BlockingDetector, suspended_s=double, began_s=double, now_s=double, held_s=double)
cdef _run_inline(Call call, Runtime runtime, ChainStep step, Exchange exchange)
