# SPDX-License-Identifier: Apache-2.0
# C declarations for `mutable_multidict_view.py`. Only Cython reads this file.

from apisix.runner.http.multidict_view cimport MultidictView, default_or_error

cdef class MutableMultidictView(MultidictView):
    cdef _check(self, key, value)
    cpdef _materialize(self)
    cdef _delete(self, key)
