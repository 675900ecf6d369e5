# SPDX-License-Identifier: Apache-2.0
# What `scalars.py` says, in C. Only the accelerator reads this file.

from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "Python.h":
    const uint8_t* _data "(const unsigned char *) PyBytes_AS_STRING" (bytes)
    Py_ssize_t _size "PyBytes_GET_SIZE" (bytes)
    bytes PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    str PyUnicode_New(Py_ssize_t, Py_UCS4)
    void* PyUnicode_1BYTE_DATA(str)
    str PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    object PyUnicode_New(Py_ssize_t, uint32_t)
    bint PyUnicode_IS_ASCII(object)
    const uint8_t* _ascii_of "PyUnicode_1BYTE_DATA" (object)
    Py_ssize_t _characters "PyUnicode_GET_LENGTH" (object)
    bytes PyUnicode_AsEncodedString(object, const char*, const char*)
    ctypedef struct PyByteArrayObject:
        Py_ssize_t ob_alloc
    bytearray PyByteArray_FromStringAndSize(const char*, Py_ssize_t)
    int PyByteArray_Resize(bytearray, Py_ssize_t) except -1
    uint8_t* _bytes_of "(unsigned char *) PyByteArray_AS_STRING" (bytearray)
    Py_ssize_t _length "PyByteArray_GET_SIZE" (bytearray)

cdef extern from *:
    # RFC 9110, 5.6.2: for each ASCII character, whether it may stand in a token. Eight lines of sixteen.
    """
    static const unsigned char APISIX_TOKEN[128] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0,
        0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0
    };
    """
    const uint8_t* _TOKEN "APISIX_TOKEN"


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


cdef inline (Py_ssize_t,) network_u32_at(bytes buf, Py_ssize_t pos) except *:
    cdef const uint8_t* p = _at(buf, pos, 4)
    return (<uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | <uint32_t>p[3],)


cdef inline (Py_ssize_t,) network_u32_of(bytearray buf, Py_ssize_t pos) except *:
    if pos < 0 or pos > _length(buf) - 4:
        _raise_struct_error(pos)
    cdef const uint8_t* p = _bytes_of(buf) + pos
    return (<uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | <uint32_t>p[3],)


cdef inline bytes part_of(bytearray buf, Py_ssize_t start, Py_ssize_t end):
    if start < 0 or end < start or end > _length(buf):
        _raise_struct_error(start)
    return PyBytes_FromStringAndSize(<const char*>_bytes_of(buf) + start, end - start)


cdef inline (Py_ssize_t,) i32_at(bytes buf, Py_ssize_t pos) except *:
    return (<int32_t>_get_u32(_at(buf, pos, 4)),)


cdef inline uint32_t _get_u32(const uint8_t* p) noexcept:
    return <uint32_t>p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef inline void _put_u32(uint8_t* p, uint32_t number) noexcept:
    p[0] = number & 255
    p[1] = number >> 8 & 255
    p[2] = number >> 16 & 255
    p[3] = number >> 24


cdef inline bint _fits(Py_ssize_t number) noexcept:
    return <uint64_t>number >> 32 == 0  # compared with 0xFFFFFFFF, which is a Python object, it costs 80 instructions


cdef inline bytes pack_u32(Py_ssize_t number):
    cdef uint8_t[4] packed
    if not _fits(number):
        _raise_struct_error(-1)
    _put_u32(packed, number)
    return PyBytes_FromStringAndSize(<const char*>packed, 4)


cdef inline bytes pack_network_u32(Py_ssize_t number):
    cdef char[4] packed
    if not _fits(number):
        _raise_struct_error(-1)
    packed[0] = number >> 24
    packed[1] = number >> 16 & 255
    packed[2] = number >> 8 & 255
    packed[3] = number & 255
    return PyBytes_FromStringAndSize(packed, 4)


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


cdef inline bytes part_at(bytes buf, Py_ssize_t start, Py_ssize_t end):
    if start < 0 or end < start or end > _size(buf):
        _raise_struct_error(start)
    return PyBytes_FromStringAndSize(<const char*>_data(buf) + start, end - start)


cdef inline str text_at(bytes buf, Py_ssize_t start, Py_ssize_t end):
    if start < 0 or end < start or end > _size(buf):
        _raise_struct_error(start)
    return _decoded(_data(buf) + start, end - start)


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


cdef inline bint _is_ascii(const uint8_t* p, Py_ssize_t size) noexcept:
    cdef uint64_t word, bits = 0
    cdef Py_ssize_t at = 0
    if size < 8:
        for at in range(size):
            bits |= p[at]
        return bits < 128
    while at < size - 8:
        memcpy(&word, p + at, 8)
        bits |= word
        at += 8
    memcpy(&word, p + size - 8, 8)  # the rest, with some bytes that were looked at before
    bits |= word
    return not bits & <uint64_t>0x8080808080808080ULL


cdef inline str _decoded(const uint8_t* data, Py_ssize_t size):
    """Return UTF-8 as text. For ASCII in half the time of the general function."""
    if size < 2 or not _is_ascii(data, size):
        return PyUnicode_DecodeUTF8(<const char*>data, size, "surrogateescape")
    cdef object text = PyUnicode_New(size, 127)
    memcpy(<uint8_t*>_ascii_of(text), data, size)
    return <str>text


cdef inline bint is_ascii(text) noexcept:
    return PyUnicode_IS_ASCII(text)


cdef inline bint is_plain(text) noexcept:
    # ASCII only: others are looked at more closely. Without an exit from the loop, the compiler makes 16 comparisons at once.
    cdef Py_ssize_t size, index
    cdef const uint8_t* data
    cdef uint8_t found = 0
    if not isinstance(text, str) or not PyUnicode_IS_ASCII(text):
        return False
    data = _ascii_of(text)
    size = _characters(text)
    for index in range(size):
        found |= (data[index] < 32) | (data[index] == 127)
    return not found


cdef inline bint is_token(text) noexcept:
    cdef Py_ssize_t size, index
    cdef const uint8_t* data
    cdef uint8_t found = 1
    if not isinstance(text, str) or not PyUnicode_IS_ASCII(text):
        return False
    data = _ascii_of(text)
    size = _characters(text)
    for index in range(size):
        found &= _TOKEN[data[index]]
    return found and size > 0


cdef inline uint8_t first_letter(text) noexcept:
    if not isinstance(text, str) or not PyUnicode_IS_ASCII(text) or _characters(text) == 0:
        return 0
    return _ascii_of(text)[0] & 31


cdef inline bytearray new_message(bytes start):
    return PyByteArray_FromStringAndSize(<const char*>_data(start), _size(start))


cdef inline bytes frozen(bytearray out):
    return PyBytes_FromStringAndSize(<const char*>_bytes_of(out), _length(out))


cdef inline bytes encode_text(text):
    cdef Py_ssize_t size
    cdef const char* data
    if isinstance(text, str) and PyUnicode_IS_ASCII(text):
        data = PyUnicode_AsUTF8AndSize(text, &size)
        return PyBytes_FromStringAndSize(data, size)
    return _encode_other_text(text)


cdef inline bytes _encode_other_text(text):
    try:
        return PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape")
    except (TypeError, UnicodeEncodeError):
        from apisix.runner.wire.scalars import encode_text as encode
        return encode(text)  # which says what is wrong


cdef inline uint8_t* _grown(bytearray out, Py_ssize_t added) except NULL:
    cdef Py_ssize_t size = _length(out)
    if (<PyByteArrayObject*>out).ob_alloc <= size + added < 4096:
        PyByteArray_Resize(out, 2 * (size + added))  # room for what follows: by itself it grows by an eighth, at each entry
    PyByteArray_Resize(out, size + added)
    return _bytes_of(out) + size


cdef inline int set_u32(bytearray out, Py_ssize_t pos, number) except -1:
    cdef Py_ssize_t word = number
    if pos < 0 or pos > _length(out) - 4 or not _fits(word):
        _raise_struct_error(pos)
    _put_u32(_bytes_of(out) + pos, <uint32_t>word)
    return 0


cdef inline int set_offset(bytearray out, Py_ssize_t pos, Py_ssize_t offset) except -1:
    if pos < 0 or pos > _length(out) - 4 or not _fits(offset):
        _raise_struct_error(pos)
    _put_u32(_bytes_of(out) + pos, <uint32_t>offset)
    return 0


cdef inline int set_network_u32(bytearray out, Py_ssize_t pos, Py_ssize_t number) except -1:
    if pos < 0 or pos > _length(out) - 4 or not _fits(number):
        _raise_struct_error(pos)
    cdef uint8_t* p = _bytes_of(out) + pos
    p[0] = number >> 24
    p[1] = number >> 16 & 255
    p[2] = number >> 8 & 255
    p[3] = number & 255
    return 0


cdef inline int set_part(bytearray out, Py_ssize_t pos, bytes part) except -1:
    if pos < 0 or pos > _length(out) - _size(part):
        _raise_struct_error(pos)
    memcpy(_bytes_of(out) + pos, _data(part), _size(part))
    return 0


cdef inline int append_u32(bytearray out, Py_ssize_t number) except -1:
    if not _fits(number):
        _raise_struct_error(-1)
    _put_u32(_grown(out, 4), <uint32_t>number)
    return 0


cdef inline int append_part(bytearray out, part) except -1:
    if not isinstance(part, bytes):
        raise TypeError(f"bytes were expected, not {type(part).__name__}")
    memcpy(_grown(out, _size(<bytes>part)), _data(<bytes>part), _size(<bytes>part))  # a subclass of bytes too
    return 0


cdef inline int append_bytes(bytearray out, data) except -1:
    if not isinstance(data, bytes):
        raise TypeError(f"bytes were expected, not {type(data).__name__}")
    cdef Py_ssize_t size = _size(<bytes>data)
    cdef Py_ssize_t padded = (size + 3) & ~3
    if not _fits(size):
        _raise_struct_error(-1)
    cdef uint8_t* p = _grown(out, 4 + padded)
    _put_u32(p, <uint32_t>size)
    memset(p + 4 + size, 0, padded - size)
    memcpy(p + 4, _data(<bytes>data), size)
    return 0


cdef inline int append_zeros(bytearray out, Py_ssize_t count) except -1:
    memset(_grown(out, count), 0, count)
    return 0


cdef inline int append_places(bytearray out, Py_ssize_t count) except -1:
    if not _fits(count):
        _raise_struct_error(-1)
    cdef uint8_t* p = _grown(out, 4 + 4 * count)
    _put_u32(p, <uint32_t>count)
    memset(p + 4, 0, 4 * count)
    return 0


cdef inline int append_text(bytearray out, text) except -1:
    cdef Py_ssize_t size
    cdef const char* data
    if isinstance(text, str) and PyUnicode_IS_ASCII(text):
        data = PyUnicode_AsUTF8AndSize(text, &size)
        return _append_string(out, data, size)
    cdef bytes encoded = _encode_other_text(text)
    return _append_string(out, <const char*>_data(encoded), _size(encoded))


cdef inline int _append_string(bytearray out, const char* data, Py_ssize_t size) except -1:
    _put_string(_grown(out, 4 + ((size + 4) & ~3)), <const uint8_t*>data, size)
    return 0


cdef inline Py_ssize_t _padded(Py_ssize_t size) noexcept:
    """Return how many bytes a string takes: its length, itself, and NULs."""
    return 4 + ((size + 4) & ~3)


cdef inline uint8_t* _put_string(uint8_t* p, const uint8_t* data, Py_ssize_t size) noexcept:
    """Write a string, return where it ends."""
    cdef uint8_t* end = p + _padded(size)
    _put_u32(end - 4, 0)
    _put_u32(p, <uint32_t>size)
    memcpy(p + 4, data, size)
    return end
