# SPDX-License-Identifier: Apache-2.0
# The functions of `execution.py` that each call runs, in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.call.call cimport Call
from apisix.runner.call.chains cimport Chains, PreparedChain
from apisix.runner.wire.calls cimport HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallReq, HTTPRespCallResp

@cython.locals(prepared=PreparedChain, chains=Chains)
cpdef execute(Call call, runtime, message)
@cython.locals(observed=bint, began_s=double)
cdef _run_chain(Call call, runtime, PreparedChain prepared, message)
cdef _run_link(Call call, runtime, link, setup, exchange)
@cython.locals(began_s=double, took_s=double)
cdef _run_measured(meter, Call call, runtime, link, setup, exchange)
@cython.locals(suspended_s=double, began_s=double, now_s=double, held_s=double)
cdef _run_inline(Call call, runtime, link, exchange)
