# SPDX-License-Identifier: Apache-2.0
# What `contexts.py` says, in C. Only the accelerator reads this file.

from cpython.contextvars cimport PyContext_Enter, PyContext_Exit, PyContextVar_Set

cdef enum:
    CAN_ENTER = 1


cdef inline int assign(variable, value) except -1:
    PyContextVar_Set(variable, value)
    return 0


cdef inline int enter(context) except -1:
    return PyContext_Enter(context)


cdef inline int leave(context) except -1:
    return PyContext_Exit(context)
