# SPDX-License-Identifier: Apache-2.0
# The class of `reply.py` in C. Only the accelerator reads this file.

from apisix.runner.http.fields cimport check_header

cdef class Reply(Exception):
    cdef public object status
    cdef public object body
    cdef public object headers

cpdef checked_status(status)
