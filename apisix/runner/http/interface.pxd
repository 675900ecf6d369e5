# SPDX-License-Identifier: Apache-2.0
# The class of `interface.py` in C. Only the accelerator reads this file.

cimport cython

@cython.collection_type("mapping")
cdef class Interface:
    pass
