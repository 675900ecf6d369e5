# SPDX-License-Identifier: Apache-2.0
# C declarations for `runtime.py`. Only Cython reads this file.

from apisix.runner.call.chain_cache cimport ChainCache
from apisix.runner.call.blocking.detector cimport BlockingDetector
from apisix.runner.call.deadlines cimport Deadlines
from apisix.runner.call.observing.trace cimport CallObserver

cdef class Runtime:
    cdef readonly object loop
    cdef readonly ChainCache chains
    cdef readonly object threads
    cdef readonly object body_threads
    cdef readonly Deadlines deadlines
    cdef readonly double plugin_timeout_s
    cdef readonly double info_timeout_s
    cdef readonly double first_look_s
    cdef readonly Py_ssize_t max_in_flight
    cdef readonly object on_error
    cdef readonly Py_ssize_t max_decompressed_bytes
    cdef public BlockingDetector blocking_detector
    cdef public CallObserver observer
    cdef public object failure_observer
    cdef public object meter
    cdef readonly object metadata_store
    cdef readonly bint pre_req_first
    cdef public bint forked
    cdef public Py_ssize_t held_bytes
    cdef public long connections_aborted
    cdef public Py_ssize_t in_flight
    cdef public long calls
    cdef public long asks
    cdef public long unknown_tokens
    cdef public long refused
