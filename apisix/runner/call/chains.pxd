# SPDX-License-Identifier: Apache-2.0
# The classes of `chains.py` in C, but for Setup. Only the accelerator reads this file.

cimport cython

cdef class Step:
    cdef readonly object name
    cdef readonly object hook
    cdef readonly bint is_coroutine
    cdef readonly tuple needs
    cdef readonly object on_error
    cdef readonly bint passes
    cdef readonly object plugin_type
    cdef readonly object setup
    cdef readonly bint straight

cdef class PreparedChain:
    cdef readonly object chain
    cdef readonly object key
    cdef readonly object phase
    cdef readonly bint refused
    cdef readonly tuple steps
    cdef public double renew_at_s
    cdef public Py_ssize_t users
    cdef public bint used
    cdef public bint evicted
    cdef public bint warned

cdef class Chains:
    cdef object _registry
    cdef object _lookup
    cdef object _threads
    cdef Py_ssize_t _capacity
    cdef double _renew_s
    cdef double _setup_timeout_s
    cdef object _on_error
    cdef object _spawn
    cdef object _close_failed
    cdef dict _chains
    cdef dict _building
    cdef dict _making
    @cython.locals(prepared=PreparedChain)
    cpdef PreparedChain acquire(self, Py_ssize_t token, bint response, double now_s)
    cpdef release(self, PreparedChain prepared)
    @cython.locals(oldest=PreparedChain)
    cdef _evict_oldest(self)
