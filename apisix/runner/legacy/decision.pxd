# SPDX-License-Identifier: Apache-2.0
# C declarations for `decision.py`. Only Cython reads this file.

cimport cython

cdef class Decision:
    cdef readonly object plugin
    cdef readonly object action

@cython.locals(decision=Decision)
cpdef decided(plugin)
@cython.locals(decision=Decision)
cpdef bint decide(plugin, action) except -1
