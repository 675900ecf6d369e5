# SPDX-License-Identifier: Apache-2.0
# C declarations for `detector.py`. Only Cython reads this file.

from apisix.runner cimport primitives

cdef class BlockingDetector:
    cdef public object on_mark
    cdef public object running
    cdef public double since_s
    cdef public object starvation
    cdef object _short_blocks
    cdef object _coroutines
    cdef set _warned
    cdef object _marking
    cdef object _closed
    cdef object _awake
    cdef public object probe
