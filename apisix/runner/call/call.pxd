# SPDX-License-Identifier: Apache-2.0
# The classes of `call.py` in C. Only the accelerator reads this file.

cdef class Questions:
    cdef public Py_ssize_t missing
    cdef public object done
    cdef public list answers

cdef class Call:
    cdef public object id
    cdef public object route_key
    cdef public object plugin
    cdef public object request_id
    cdef public double suspended_s
    cdef public bint gave_up
    cdef object _conversation
    cdef object _runtime
    cdef double _began_s
    cdef object _deadline
    cdef bint _counted
    cdef object _failure
    cdef object _job
    cdef object _thread_wakeup
    cdef object _waits_for
    cdef bint _over
    cpdef check(self)
    cpdef check_swallowed(self)
    cpdef finish(self)
