# SPDX-License-Identifier: Apache-2.0
# C declarations for `recorder.py`. Only Cython reads this file.

from apisix.runner cimport primitives
from apisix.runner.call.observing.trace cimport CallTrace
from apisix.runner.http.message cimport HTTPMessage
from apisix.runner.http.reply cimport Reply
from apisix.runner.plugin.chain.chain cimport ChainStep

cdef class StepRecorder:
    cdef object _meter
    cdef CallTrace _trace
    cdef double _began_s
    cdef tuple _mark
    cdef object _watch
    cdef begin(self, ChainStep step, HTTPMessage message, HTTPMessage before)
    cdef hook_begins(self, ChainStep step)
    cdef check(self)
    cdef end(self, ChainStep step, HTTPMessage message, Reply reply, failure)
