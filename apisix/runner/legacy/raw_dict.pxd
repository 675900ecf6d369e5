# SPDX-License-Identifier: Apache-2.0
# What `raw_dict.py` says, in C. Only the accelerator reads this file.

from cpython.dict cimport PyDict_Contains, PyDict_DelItem, PyDict_GetItemWithError, PyDict_Next, PyDict_SetItem, PyDict_Size
from cpython.ref cimport PyObject

from apisix.runner.http cimport texts


cdef inline object get_item(mapping, key, default):
    cdef PyObject* value = PyDict_GetItemWithError(mapping, key)
    return default if value is NULL else <object>value


cdef inline bint has_item(mapping, key) except -1:
    return PyDict_Contains(mapping, key)


cdef inline int set_item(mapping, key, value) except -1:
    return PyDict_SetItem(mapping, key, value)


cdef inline int delete_item(mapping, key) except -1:
    return PyDict_DelItem(mapping, key)


cdef inline bint fill(mapping, list pairs) except -1:
    cdef bint lower = True
    for name, value in pairs:
        PyDict_SetItem(mapping, name, value)
        lower &= texts.is_lower(name)
    return lower


cdef inline list unlike(given, list pairs):
    cdef Py_ssize_t position = 0, index = 0, count = len(pairs)
    cdef PyObject* name
    cdef PyObject* value
    cdef tuple pair
    cdef list changed = []
    if PyDict_Size(given) < count:
        return None
    # Nothing that runs in this loop can change the dict: names that are equal but not the same count as others.
    while PyDict_Next(given, &position, &name, &value):
        if index < count:
            pair = pairs[index]
            index += 1
            if <PyObject*>pair[0] != name:
                return None
            if <PyObject*>pair[1] == value:
                continue
        changed.append((<object>name, <object>value))
    return changed
