# SPDX-License-Identifier: Apache-2.0
# What `descriptors.py` says, in C. Only the accelerator reads this file.

from cpython.exc cimport PyErr_SetFromErrno
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "Python.h":
    bytes PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    int _PyBytes_Resize(PyObject**, Py_ssize_t) except -1
    char* _bytes_of "PyByteArray_AS_STRING" (bytearray)
    Py_ssize_t _length "PyByteArray_GET_SIZE" (bytearray)
    char* _data "PyBytes_AS_STRING" (bytes)

cdef extern from *:
    """
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    """
    int MSG_NOSIGNAL

cdef extern from "<sys/socket.h>":
    Py_ssize_t _recv "recv" (int, void*, size_t, int) noexcept nogil
    Py_ssize_t _send "send" (int, const void*, size_t, int) noexcept nogil


cdef inline Py_ssize_t _failed() except -2:
    if errno == EAGAIN or errno == EINTR:
        return -1
    PyErr_SetFromErrno(OSError)


# The sockets do not block, and what they do takes no longer than to give the interpreter away and wait for it.


cdef inline Py_ssize_t receive_into(sock, int descriptor, bytearray buffer) except -2:
    cdef Py_ssize_t size = _recv(descriptor, _bytes_of(buffer), _length(buffer), 0)
    return size if size >= 0 else _failed()


cdef inline bytes receive(sock, int descriptor, Py_ssize_t size):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
    cdef Py_ssize_t received = _recv(descriptor, _data(data), size, 0)
    if received < 0:
        _failed()
        return None
    return data if received == size else data[:received]


cdef inline Py_ssize_t send(sock, int descriptor, bytearray data) except -2:
    cdef Py_ssize_t size = _send(descriptor, _bytes_of(data), _length(data), MSG_NOSIGNAL)
    return size if size >= 0 else max(0, _failed())
