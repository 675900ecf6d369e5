# SPDX-License-Identifier: Apache-2.0
# The class of `edits.py` in C. Only the accelerator reads this file.

from apisix.runner.http.views cimport EntriesView, default_of


cdef class EditableEntries(EntriesView):
    cpdef mark(self)
