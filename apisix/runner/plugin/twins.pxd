# SPDX-License-Identifier: Apache-2.0
# What `twins.py` says, in C. Only the accelerator reads this file.

cdef extern from "Python.h":
    ctypedef struct PyTypeObject
    object PyType_GenericAlloc(PyTypeObject*, Py_ssize_t)
    int PyObject_GenericSetDict(object, object, void*) except -1
    dict PyDict_Copy(object)


cdef inline twin_of(cls, state):
    twin = PyType_GenericAlloc(<PyTypeObject*>cls, 0)
    PyObject_GenericSetDict(twin, PyDict_Copy(state), NULL)
    return twin
