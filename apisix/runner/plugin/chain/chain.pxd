# SPDX-License-Identifier: Apache-2.0
# C declarations for `chain.py`. Only Cython reads this file.

cdef class ChainStep:
    cdef readonly object name
    cdef readonly object plugin_type
    cdef readonly object instance
    cdef readonly object hook
    cdef readonly int how_it_runs
    cdef readonly bint is_inline
    cdef readonly bint is_coroutine
    cdef readonly tuple needs
    cdef readonly object on_error
    cdef readonly bint passes
    cdef readonly object setup
    cdef readonly object close
    cdef readonly object configure

cdef class Chain:
    cdef readonly object configuration
    cdef readonly object key
    cdef readonly tuple steps
    cdef readonly object phase
    cdef readonly object problem
