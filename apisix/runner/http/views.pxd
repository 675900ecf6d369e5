# SPDX-License-Identifier: Apache-2.0
# The class of `views.py` in C. Only the accelerator reads this file.

cimport cython

from apisix.runner.http.live cimport items_of, names_of, values_of
from apisix.runner.http.overlay cimport Overlay

cpdef default_of(key, default)

cdef class EntriesView(Overlay):
    @cython.locals(twin=EntriesView)
    cpdef copy(self)
