# SPDX-License-Identifier: Apache-2.0
# C declarations for `deadlines.py`. Only Cython reads this file.

from apisix.runner cimport primitives

cdef class Deadlines:
    cdef object _loop
    cdef dict _due_s
    cdef object _timer
    cdef double _timer_s
    cpdef add(self, waiting, double at_s)
    cpdef discard(self, waiting)
    cdef _set_timer(self, double at_s)
