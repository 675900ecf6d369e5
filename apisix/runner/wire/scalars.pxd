# SPDX-License-Identifier: Apache-2.0
# What `scalars.py` says, in C. Only the accelerator reads this file.

from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp

cdef extern from "Python.h":
    const uint8_t* _data "(const unsigned char *) PyBytes_AS_STRING" (bytes)
    Py_ssize_t _size "PyBytes_GET_SIZE" (bytes)
    bytes PyBytes_FromStringAndSize(const char*, Py_ssize_t)


cdef inline const uint8_t* _at(bytes buf, Py_ssize_t pos, Py_ssize_t size) except NULL:
    if buf is None or pos < 0 or pos > _size(buf) - size:
        _raise_struct_error(pos)
    return _data(buf) + pos


cdef inline int _raise_struct_error(Py_ssize_t pos) except -1:
    from struct import error
    raise error(f"nothing can be read at byte {pos}")


cdef inline (Py_ssize_t,) u16_at(bytes buf, Py_ssize_t pos) except *:
    cdef const uint8_t* p = _at(buf, pos, 2)
    return (p[0] | p[1] << 8,)


cdef inline (Py_ssize_t,) u32_at(bytes buf, Py_ssize_t pos) except *:
    return (_get_u32(_at(buf, pos, 4)),)


cdef inline (Py_ssize_t,) i32_at(bytes buf, Py_ssize_t pos) except *:
    return (<int32_t>_get_u32(_at(buf, pos, 4)),)


cdef inline uint32_t _get_u32(const uint8_t* p) noexcept:
    return <uint32_t>p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef inline void _put_u32(uint8_t* p, uint32_t number) noexcept:
    p[0] = number & 255
    p[1] = number >> 8 & 255
    p[2] = number >> 16 & 255
    p[3] = number >> 24


cdef inline bytes pack_u32(Py_ssize_t number):
    cdef uint8_t[4] packed
    if not 0 <= number <= 0xFFFFFFFF:
        _raise_struct_error(-1)
    _put_u32(packed, number)
    return PyBytes_FromStringAndSize(<const char*>packed, 4)


cdef inline tuple u16s_at(bytes buf, Py_ssize_t pos, Py_ssize_t count):
    cdef const uint8_t* p = _at(buf, pos, 2 * count)
    cdef tuple numbers = PyTuple_New(count)
    cdef Py_ssize_t index
    cdef object number
    for index in range(count):
        number = p[2 * index] | p[2 * index + 1] << 8
        Py_INCREF(number)
        PyTuple_SET_ITEM(numbers, index, number)
    return numbers


cdef inline bytes pack_u32s(list numbers):
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, 4 * len(numbers))
    cdef uint8_t* p = <uint8_t*>_data(packed)
    for number in numbers:
        if not 0 <= number <= 0xFFFFFFFF:
            _raise_struct_error(-1)
        _put_u32(p, number)
        p += 4
    return packed


cdef inline Py_ssize_t first_hit(bytes buf, bytes name, bint ignore_case) noexcept:
    return 0


cdef inline uint8_t _folded(uint8_t c) noexcept:
    return c + 32 if c"A" <= c <= c"Z" else c


cdef inline bint is_name_at(bytes buf, Py_ssize_t pos, bytes name, bint ignore_case) noexcept:
    cdef Py_ssize_t size = _size(name), index
    if pos < 0 or pos > _size(buf) - 4 or _get_u32(_data(buf) + pos) != <uint32_t>size or size > _size(buf) - 4 - pos:
        return False
    cdef const uint8_t* there = _data(buf) + pos + 4
    cdef const uint8_t* wanted = _data(name)
    if not ignore_case:
        return memcmp(there, wanted, size) == 0
    for index in range(size):
        if _folded(there[index]) != _folded(wanted[index]):
            return False
    return True


cdef inline bint is_part_at(bytes buf, Py_ssize_t pos, bytes part) noexcept:
    if pos < 0 or pos > _size(buf) - _size(part):
        return False
    return memcmp(_data(buf) + pos, _data(part), _size(part)) == 0
