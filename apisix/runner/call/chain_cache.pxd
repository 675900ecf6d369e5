# SPDX-License-Identifier: Apache-2.0
# C declarations for `chain_cache.py`. Only Cython reads this file.

cimport cython

from apisix.runner.plugin.chain.chain cimport Chain

cdef class CachedChain:
    cdef readonly Chain chain
    cdef public double renew_at_s
    cdef public Py_ssize_t users
    cdef public bint used
    cdef public bint evicted
    cdef bint _warned

cdef class ChainCache:
    cdef object _registry
    cdef object _lookup
    cdef object _threads
    cdef Py_ssize_t _capacity
    cdef double _renew_s
    cdef double _setup_timeout_s
    cdef object _on_error
    cdef object _spawn
    cdef object _close_failed
    cdef object _hook_in_process
    cdef object _background
    cdef dict _chains
    cdef dict _building
    cdef dict _making
    @cython.locals(cached=CachedChain)
    cpdef CachedChain acquire(self, Py_ssize_t token, bint response, double now_s)
    cpdef release(self, CachedChain cached)
    @cython.locals(oldest=CachedChain)
    cdef _evict_oldest(self)
