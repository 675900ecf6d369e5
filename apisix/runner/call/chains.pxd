# SPDX-License-Identifier: Apache-2.0
# The classes of `chains.py` in C, but for Setup. Only the accelerator reads this file.

cdef class PreparedChain:
    cdef readonly object chain
    cdef readonly tuple steps
    cdef public double renew_at_s
    cdef public Py_ssize_t users
    cdef public bint evicted
    cdef public bint warned

cdef class Chains:
    cdef object _registry
    cdef object _lookup
    cdef Py_ssize_t _capacity
    cdef double _renew_s
    cdef double _setup_timeout_s
    cdef object _clock
    cdef object _spawn
    cdef object _close_failed
    cdef object _chains
    cpdef PreparedChain acquire(self, token, bint response)
    cpdef release(self, PreparedChain prepared)
    cdef PreparedChain _build(self, tuple key)
