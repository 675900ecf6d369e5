# SPDX-License-Identifier: Apache-2.0
# The C implementation of `primitives.py`, which documents each function. Only Cython reads this file.
#
# Numbers are assembled from bytes, so nothing has to be aligned, and each read is preceded by a comparison with the end of the buffer.
# Positions are Py_ssize_t, which must have 64 bits: then no sum of a position and a few numbers of 32 bits overflows.

from cpython.contextvars cimport PyContext_Enter, PyContext_Exit, PyContextVar_Set
from cpython.dict cimport PyDict_Contains, PyDict_DelItem, PyDict_GetItemWithError, PyDict_Next, PyDict_SetItem, PyDict_Size
from cpython.exc cimport PyErr_SetFromErrno
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.time cimport perf_counter
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "Python.h":
    bytes PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    const uint8_t* _data "(const unsigned char *) PyBytes_AS_STRING" (bytes)
    Py_ssize_t _size "PyBytes_GET_SIZE" (bytes)
    ctypedef struct PyByteArrayObject:
        Py_ssize_t ob_alloc
        char* ob_bytes
        char* ob_start
    void Py_SET_SIZE(bytearray, Py_ssize_t)
    bytearray PyByteArray_FromStringAndSize(const char*, Py_ssize_t)
    int PyByteArray_Resize(bytearray, Py_ssize_t) except -1
    uint8_t* _bytes_of "(unsigned char *) PyByteArray_AS_STRING" (bytearray)
    Py_ssize_t _length "PyByteArray_GET_SIZE" (bytearray)
    str PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    object PyUnicode_New(Py_ssize_t, uint32_t)
    bint PyUnicode_IS_ASCII(object)
    const uint8_t* _ascii_of "PyUnicode_1BYTE_DATA" (object)
    Py_ssize_t _characters "PyUnicode_GET_LENGTH" (object)
    bytes PyUnicode_AsEncodedString(object, const char*, const char*)
    list PyDict_Items(object)

cdef extern from *:
    # APISIX_TOKEN: for each ASCII character, whether it may be in a token, in eight lines of sixteen. Source: RFC 9110, 5.6.2.
    # APISIX_NAMES: see `_decoded_name`.
    """
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    _Static_assert(sizeof(Py_ssize_t) == 8, "the compiled engine needs a processor of 64 bits");
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
    static PyObject *APISIX_NAMES[256];
    """
    const uint8_t* _TOKEN "APISIX_TOKEN"
    PyObject** _NAMES "APISIX_NAMES"
    int MSG_NOSIGNAL

cdef enum:
    _NAME_SIZE = 40  # the length up to which names are kept, in characters
    _RESERVE = 220  # bytes that a message can grow by before it is copied: most replies are shorter

cdef extern from "<sys/socket.h>":
    Py_ssize_t _recv "recv" (int, void*, size_t, int) noexcept nogil
    Py_ssize_t _send "send" (int, const void*, size_t, int) noexcept nogil


# ---------------------------------------------------------------------------------------------------- reading a received message


cdef inline int _out_of_bounds(Py_ssize_t start, Py_ssize_t size, Py_ssize_t total) except -1:
    from apisix.runner.primitives import out_of_bounds
    raise out_of_bounds(start, <object>start + size, total)


cdef inline int _bad_vtable(Py_ssize_t vtable, Py_ssize_t size) except -1:
    from apisix.runner.primitives import bad_vtable
    raise bad_vtable(vtable, size)


cdef inline int _too_large(Py_ssize_t limit) except -1:
    from apisix.runner.primitives import too_large
    raise too_large(limit)


cdef inline bint _is_inside(Py_ssize_t pos, Py_ssize_t size, Py_ssize_t total) noexcept:
    return 0 <= pos <= total - size


cdef inline const uint8_t* _at(bytes buf, Py_ssize_t pos, Py_ssize_t size) except NULL:
    """Return the address of bytes that lie within a buffer."""
    if buf is None:
        raise TypeError("bytes were expected, not None")
    if not _is_inside(pos, size, _size(buf)):
        _out_of_bounds(pos, size, _size(buf))
    return _data(buf) + pos


cdef inline const uint8_t* _at_any(buf, Py_ssize_t pos, Py_ssize_t size) except NULL:
    """Same as `_at`, but for a bytearray too."""
    if isinstance(buf, bytes):
        return _at(<bytes>buf, pos, size)
    cdef bytearray array = buf
    if array is None:
        raise TypeError("bytes were expected, not None")
    if not _is_inside(pos, size, _length(array)):
        _out_of_bounds(pos, size, _length(array))
    return _bytes_of(array) + pos


cdef inline Py_ssize_t _get_u16(const uint8_t* p) noexcept:
    return p[0] | p[1] << 8


cdef inline uint32_t _get_u32(const uint8_t* p) noexcept:
    return <uint32_t>p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef inline const uint8_t* _between(bytes buf, Py_ssize_t start, Py_ssize_t end) except NULL:
    if end < start:
        _out_of_bounds(start, end - start, _size(buf))
    return _at(buf, start, end - start)


cdef inline bytes part_at(buf, Py_ssize_t start, Py_ssize_t end):
    if end < start:
        _out_of_bounds(start, end - start, len(buf))
    return PyBytes_FromStringAndSize(<const char*>_at_any(buf, start, end - start), end - start)


cdef inline Py_ssize_t u8_at(bytes buf, Py_ssize_t pos) except -1:
    return _at(buf, pos, 1)[0]


cdef inline Py_ssize_t u16_at(bytes buf, Py_ssize_t pos) except -1:
    return _get_u16(_at(buf, pos, 2))


cdef inline Py_ssize_t u32_at(bytes buf, Py_ssize_t pos) except -1:
    return _get_u32(_at(buf, pos, 4))


cdef inline Py_ssize_t i32_at(bytes buf, Py_ssize_t pos) except? -1:
    return <int32_t>_get_u32(_at(buf, pos, 4))


cdef inline Py_ssize_t network_u32_at(buf, Py_ssize_t pos) except -1:
    cdef const uint8_t* p = _at_any(buf, pos, 4)
    return <Py_ssize_t>p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]


cdef inline Py_ssize_t target_at(bytes buf, Py_ssize_t pos) except -1:
    return pos + <Py_ssize_t>_get_u32(_at(buf, pos, 4))


cdef inline Py_ssize_t field_at(bytes buf, Py_ssize_t table, Py_ssize_t slot) except -1:
    cdef Py_ssize_t vtable = table - <int32_t>_get_u32(_at(buf, table, 4))
    cdef Py_ssize_t size = _get_u16(_at(buf, vtable, 2)), offset
    if size < 4 or size & 1:
        _bad_vtable(vtable, size)
    cdef const uint8_t* p = _at(buf, vtable, size)
    if 4 + 2 * slot >= size:
        return 0
    offset = _get_u16(p + 4 + 2 * slot)
    return table + offset if offset else 0


cdef inline bytes bytes_at(bytes buf, Py_ssize_t start):
    cdef Py_ssize_t size = _get_u32(_at(buf, start, 4))
    return PyBytes_FromStringAndSize(<const char*>_at(buf, start + 4, size), size)


cdef inline str text_at(bytes buf, Py_ssize_t start):
    cdef Py_ssize_t size = _get_u32(_at(buf, start, 4))
    return _decoded(_at(buf, start + 4, size), size)


cdef inline str _decoded(const uint8_t* data, Py_ssize_t size):
    if size < 2 or not _is_ascii(data, size):  # CPython shares the texts of one character
        return PyUnicode_DecodeUTF8(<const char*>data, size, "surrogateescape")
    cdef object text = PyUnicode_New(size, 127)
    memcpy(<uint8_t*>_ascii_of(text), data, size)
    return <str>text


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
    memcpy(&word, p + size - 8, 8)  # the last bytes, some of which may be checked twice
    bits |= word
    return not bits & <uint64_t>0x8080808080808080ULL


cdef inline Py_ssize_t table_count(bytes buf, Py_ssize_t start) except -1:
    cdef Py_ssize_t count = _get_u32(_at(buf, start, 4))
    _at(buf, start + 4, 4 * count)
    return count


# -------------------------------------------------------------------------------------------------------------- reading entries


cdef inline int _find_string(bytes buf, Py_ssize_t field, Py_ssize_t* start, Py_ssize_t* end) except -1:
    """Find the string that the offset at `field` refers to. 0 and 0 for an absent field."""
    start[0] = end[0] = 0
    if not field:
        return 0
    cdef Py_ssize_t at = target_at(buf, field)
    cdef Py_ssize_t size = _get_u32(_at(buf, at, 4))
    _at(buf, at + 4, size)
    start[0] = at + 4
    end[0] = at + 4 + size
    return 0


# Entries are read in loops, so these two functions read a valid one without function calls for each number. If they return False, the
# functions above read the entry again, and raise the error that says what is wrong.

cdef inline bint _try_fields(const uint8_t* data, Py_ssize_t total, Py_ssize_t pos, Py_ssize_t* name, Py_ssize_t* value) noexcept:
    """Find the fields of the entry whose offset is at `pos`: their positions, or 0 if they are absent."""
    cdef Py_ssize_t table, vtable, size
    if not _is_inside(pos, 4, total):
        return False
    table = pos + <Py_ssize_t>_get_u32(data + pos)
    if not _is_inside(table, 4, total):
        return False
    vtable = table - <int32_t>_get_u32(data + table)
    if not _is_inside(vtable, 4, total):
        return False
    size = _get_u16(data + vtable)
    if size < 4 or size & 1 or not _is_inside(vtable, size, total):
        return False
    name[0] = _get_u16(data + vtable + 4) if size > 4 else 0
    value[0] = _get_u16(data + vtable + 6) if size > 6 else 0
    if name[0]:
        name[0] += table
    if value[0]:
        value[0] += table
    return True


cdef inline bint _try_string(const uint8_t* data, Py_ssize_t total, Py_ssize_t field, Py_ssize_t* start, Py_ssize_t* end) noexcept:
    """Find the string that the offset at `field` refers to. 0 and 0 for an absent field."""
    cdef Py_ssize_t at, size
    start[0] = end[0] = 0
    if not field:
        return True
    if not _is_inside(field, 4, total):
        return False
    at = field + <Py_ssize_t>_get_u32(data + field)
    if not _is_inside(at, 4, total):
        return False
    size = _get_u32(data + at)
    if not _is_inside(at + 4, size, total):
        return False
    start[0] = at + 4
    end[0] = at + 4 + size
    return True


cdef inline (Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t) entry_at(bytes buf, Py_ssize_t pos) except *:
    cdef Py_ssize_t table, name = 0, name_end = 0, value = 0, value_end = 0, name_field = 0, value_field = 0
    _at(buf, 0, 0)
    if not (
        _try_fields(_data(buf), _size(buf), pos, &name_field, &value_field)
        and _try_string(_data(buf), _size(buf), name_field, &name, &name_end)
        and _try_string(_data(buf), _size(buf), value_field, &value, &value_end)
    ):
        table = target_at(buf, pos)
        _find_string(buf, field_at(buf, table, 0), &name, &name_end)
        _find_string(buf, field_at(buf, table, 1), &value, &value_end)
    return (name, name_end, value, value_end)


cdef inline Py_ssize_t entry_index(bytes buf, Py_ssize_t first, Py_ssize_t start, Py_ssize_t count, name, bint ignore_case) except -2:
    cdef const uint8_t* data = _at(buf, 0, 0)
    cdef const uint8_t* wanted
    cdef Py_ssize_t index, begin = 0, end = 0, name_field = 0, value_field = 0, size, total = _size(buf)
    cdef bytes encoded
    if isinstance(name, str) and PyUnicode_IS_ASCII(name):
        wanted = _ascii_of(name)
        size = _characters(name)
    else:
        encoded = _encoded(name)
        wanted = _data(encoded)
        size = _size(encoded)
    for index in range(start, count):
        if not (
            _try_fields(data, total, first + 4 * index, &name_field, &value_field)
            and _try_string(data, total, name_field, &begin, &end)
        ):
            _find_string(buf, field_at(buf, target_at(buf, first + 4 * index), 0), &begin, &end)
        if end - begin == size and _is_name(data + begin, wanted, size, ignore_case):
            return index
    return -1


cdef inline bint _is_name(const uint8_t* found, const uint8_t* name, Py_ssize_t size, bint ignore_case) noexcept:
    cdef Py_ssize_t index
    if not ignore_case:
        return memcmp(found, name, size) == 0
    for index in range(size):
        if _folded(found[index]) != _folded(name[index]):
            return False
    return True


cdef inline uint8_t _folded(uint8_t c) noexcept:
    return c + 32 if c"A" <= c <= c"Z" else c


cdef inline entry_value(bytes buf, Py_ssize_t pos):
    cdef Py_ssize_t field = 0, name_field = 0
    _at(buf, 0, 0)
    if not _try_fields(_data(buf), _size(buf), pos, &name_field, &field):
        field = field_at(buf, target_at(buf, pos), 1)
    return text_at(buf, target_at(buf, field)) if field else None


cdef inline list entries_at(bytes buf, Py_ssize_t first, Py_ssize_t count, Py_ssize_t limit):
    cdef Py_ssize_t index, name, name_end, value, value_end, unfolded = 0
    cdef tuple pair
    _at(buf, 0, 0)
    # Of more entries than fit into the buffer, one lies outside. It raises an error before it is stored.
    cdef list pairs = PyList_New(min(count, _size(buf) // 4 + 1))
    for index in range(count):
        name, name_end, value, value_end = entry_at(buf, first + 4 * index)
        unfolded += name_end - name + value_end - value
        if unfolded > limit:
            _too_large(limit)
        pair = (
            _decoded_name(_data(buf) + name, name_end - name) if name else "",
            _decoded(_data(buf) + value, value_end - value) if value else None,
        )
        Py_INCREF(pair)
        PyList_SET_ITEM(pairs, index, pair)
    return pairs


cdef inline str _decoded_name(const uint8_t* data, Py_ssize_t size):
    """
    Return a name as text. Most names repeat from call to call, so a short one of ASCII characters is kept until another one takes its slot.
    """
    if not 2 <= size <= _NAME_SIZE:
        return _decoded(data, size)
    cdef PyObject** slot = &_NAMES[(size + 7 * data[0] + 31 * data[size >> 1] + 3 * data[size - 1]) & 255]
    if slot[0] != NULL and _characters(<object>slot[0]) == size and memcmp(_ascii_of(<object>slot[0]), data, size) == 0:
        return <str>slot[0]
    cdef object name = _decoded(data, size)
    if PyUnicode_IS_ASCII(name):
        Py_XDECREF(slot[0])
        Py_INCREF(name)
        slot[0] = <PyObject*>name
    return <str>name


cdef inline uint64_t length_bit(Py_ssize_t size) noexcept:
    return <uint64_t>1 << (size & 63)


cdef inline bytes key_at(bytes buf, Py_ssize_t start, Py_ssize_t end, uint64_t lengths):
    cdef Py_ssize_t size = end - start, index
    cdef const uint8_t* name = _between(buf, start, end)
    if not _is_ascii(name, size):
        return encode_text(_decoded(name, size).lower())
    if not lengths & length_bit(size):
        return None
    cdef bytes key = PyBytes_FromStringAndSize(NULL, size)  # without a source it is a new object, which may be written to
    cdef uint8_t* folded = <uint8_t*>_data(key)
    for index in range(size):
        folded[index] = _folded(name[index])
    return key


# ------------------------------------------------------------------------------------------------------------- writing a message


cdef inline int _does_not_fit(number) except -1:
    from apisix.runner.primitives import does_not_fit
    raise does_not_fit(number)


cdef inline int _no_position() except -1:
    raise IndexError("the message has no such position")


cdef inline bint _fits(Py_ssize_t number) noexcept:
    return <uint64_t>number >> 32 == 0


cdef inline void _put_u32(uint8_t* p, uint32_t number) noexcept:
    p[0] = number & 255
    p[1] = number >> 8 & 255
    p[2] = number >> 16 & 255
    p[3] = number >> 24


cdef inline bytearray new_message(bytes start):
    cdef const uint8_t* data = _at(start, 0, 0)
    cdef bytearray out = PyByteArray_FromStringAndSize(NULL, _size(start) + _RESERVE)
    memcpy(_bytes_of(out), data, _size(start))
    _set_length(out, _size(start))
    return out


cdef inline void _set_length(bytearray out, Py_ssize_t size) noexcept:
    """Change the length of a message within its allocated memory. Same as PyByteArray_Resize, which would free the rest of it."""
    cdef uint8_t* data = _bytes_of(out)
    Py_SET_SIZE(out, size)
    data[size] = 0  # a bytearray ends in a NUL


cdef inline uint8_t* _grown(bytearray out, Py_ssize_t added) except NULL:
    """Append bytes without initializing them, and return their address."""
    cdef Py_ssize_t size = _length(out)
    cdef PyByteArrayObject* array = <PyByteArrayObject*>out
    if array.ob_start != array.ob_bytes or array.ob_alloc <= size + added:
        if size + added < 4096:
            PyByteArray_Resize(out, 2 * (size + added))  # or the message would be copied again for each entry
        PyByteArray_Resize(out, size + added)
    else:
        _set_length(out, size + added)
    return _bytes_of(out) + size


cdef inline int set_number(bytearray out, Py_ssize_t pos, number) except -1:
    cdef Py_ssize_t converted = 0
    try:
        converted = number
    except OverflowError:
        _does_not_fit(number)
    return set_offset(out, pos, converted)


cdef inline int set_offset(bytearray out, Py_ssize_t pos, Py_ssize_t offset) except -1:
    if not _fits(offset):
        _does_not_fit(offset)
    if not _is_inside(pos, 4, _length(out)):
        _no_position()
    _put_u32(_bytes_of(out) + pos, <uint32_t>offset)
    return 0


cdef inline int set_network_u32(bytearray out, Py_ssize_t pos, Py_ssize_t number) except -1:
    if not _fits(number):
        _does_not_fit(number)
    if not _is_inside(pos, 4, _length(out)):
        _no_position()
    cdef uint8_t* p = _bytes_of(out) + pos
    p[0] = number >> 24
    p[1] = number >> 16 & 255
    p[2] = number >> 8 & 255
    p[3] = number & 255
    return 0


cdef inline int set_part(bytearray out, Py_ssize_t pos, bytes part) except -1:
    cdef const uint8_t* data = _at(part, 0, 0)
    if not _is_inside(pos, _size(part), _length(out)):
        _no_position()
    memcpy(_bytes_of(out) + pos, data, _size(part))
    return 0


cdef inline int append_part(bytearray out, part) except -1:
    if not isinstance(part, bytes):
        raise TypeError(f"bytes were expected, not {type(part).__name__}")
    memcpy(_grown(out, _size(<bytes>part)), _data(<bytes>part), _size(<bytes>part))
    return 0


cdef inline int append_bytes(bytearray out, data) except -1:
    if not isinstance(data, bytes):
        raise TypeError(f"bytes were expected, not {type(data).__name__}")
    cdef Py_ssize_t size = _size(<bytes>data)
    cdef Py_ssize_t padded = (size + 3) & ~3
    if not _fits(size):
        _does_not_fit(size)
    cdef uint8_t* p = _grown(out, 4 + padded)
    _put_u32(p, <uint32_t>size)
    memset(p + 4 + size, 0, padded - size)
    memcpy(p + 4, _data(<bytes>data), size)
    return 0


cdef inline bytes encode_text(text):
    cdef Py_ssize_t size
    cdef const char* data
    if isinstance(text, str) and PyUnicode_IS_ASCII(text):
        data = PyUnicode_AsUTF8AndSize(text, &size)
        return PyBytes_FromStringAndSize(data, size)
    return _encoded(text)


cdef inline bytes _encoded(text):
    try:
        return PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape")
    except (TypeError, UnicodeEncodeError):
        from apisix.runner.primitives import encode_text as encode
        return encode(text)  # raises the error that describes it


cdef inline Py_ssize_t _string_size(Py_ssize_t size) noexcept:
    """Return how many bytes a string takes in a message: its length, its bytes, and NULs."""
    return 4 + ((size + 4) & ~3)


cdef inline uint8_t* _put_string(uint8_t* p, const uint8_t* data, Py_ssize_t size) noexcept:
    """Write a string, and return the address of what follows it."""
    cdef uint8_t* end = p + _string_size(size)
    _put_u32(end - 4, 0)
    _put_u32(p, <uint32_t>size)
    memcpy(p + 4, data, size)
    return end


cdef inline int append_text(bytearray out, text) except -1:
    cdef Py_ssize_t size
    cdef const char* data
    if isinstance(text, str) and PyUnicode_IS_ASCII(text):
        data = PyUnicode_AsUTF8AndSize(text, &size)
        return _append_string(out, <const uint8_t*>data, size)
    cdef bytes encoded = _encoded(text)
    return _append_string(out, _data(encoded), _size(encoded))


cdef inline int _append_string(bytearray out, const uint8_t* data, Py_ssize_t size) except -1:
    if not _fits(size):
        _does_not_fit(size)
    _put_string(_grown(out, _string_size(size)), data, size)
    return 0


cdef inline int append_offsets(bytearray out, Py_ssize_t count) except -1:
    if not _fits(count):
        _does_not_fit(count)
    cdef uint8_t* p = _grown(out, 4 + 4 * count)
    _put_u32(p, <uint32_t>count)
    memset(p + 4, 0, 4 * count)
    return 0


cdef inline uint8_t* _put_entry_start(uint8_t* p, bint has_value, Py_ssize_t value_at) noexcept:
    """Write the table of an entry and its vtable, and return the address of its name. Args: value_at: from the table."""
    _put_u32(p, <uint32_t>-12)
    _put_u32(p + 4, 16)
    _put_u32(p + 8, <uint32_t>(value_at - 8) if has_value else 0)
    _put_u32(p + 12, 8 | 12 << 16)
    _put_u32(p + 16, 4 | (8 << 16 if has_value else 0))
    return p + 20


cdef inline int _append_entry(
    bytearray out, Py_ssize_t place, const uint8_t* name, Py_ssize_t name_size, const uint8_t* value, Py_ssize_t value_size
) except -1:
    """Append an entry; without a value if `value` is NULL."""
    cdef Py_ssize_t value_at = 20 + _string_size(name_size)
    if not _fits(name_size):
        _does_not_fit(name_size)
    if value and not _fits(value_size):
        _does_not_fit(value_size)
    if value and not _fits(value_at - 8):
        _does_not_fit(value_at - 8)
    set_offset(out, place, _length(out) - place)
    cdef uint8_t* p = _grown(out, value_at + (_string_size(value_size) if value else 0))
    p = _put_string(_put_entry_start(p, value != NULL, value_at), name, name_size)
    if value:
        _put_string(p, value, value_size)
    return 0


cdef inline int append_entry(bytearray out, Py_ssize_t place, name, value) except -1:
    cdef Py_ssize_t name_size = 0, value_size = 0
    cdef const uint8_t* value_data = NULL
    if not (isinstance(name, str) and PyUnicode_IS_ASCII(name)):
        return _append_encoded_entry(out, place, _encoded(name), None if value is None else encode_text(value))
    if value is not None:
        if not (isinstance(value, str) and PyUnicode_IS_ASCII(value)):
            return _append_encoded_entry(out, place, encode_text(name), _encoded(value))
        value_data = <const uint8_t*>PyUnicode_AsUTF8AndSize(value, &value_size)
    return _append_entry(out, place, <const uint8_t*>PyUnicode_AsUTF8AndSize(name, &name_size), name_size, value_data, value_size)


cdef inline int _append_encoded_entry(bytearray out, Py_ssize_t place, bytes name, bytes value) except -1:
    if value is None:
        return _append_entry(out, place, _data(name), _size(name), NULL, 0)
    return _append_entry(out, place, _data(name), _size(name), _data(value), _size(value))


cdef inline int append_entries(bytearray out, list pairs) except -1:
    # The entries are measured first, so that the message grows once.
    cdef Py_ssize_t count = len(pairs), size = _ascii_size(pairs)
    if size < 0 or not _fits(size + 4 * count):
        return _append_other_entries(out, pairs)
    cdef uint8_t* offset = _grown(out, 4 + 4 * count + size)
    cdef uint8_t* p = offset + 4 + 4 * count
    _put_u32(offset, <uint32_t>count)
    for pair in pairs:
        name, value = <tuple>pair
        offset += 4
        _put_u32(offset, <uint32_t>(p - offset))
        p = _put_entry_start(p, value is not None, 20 + _string_size(_characters(name)))
        p = _put_string(p, _ascii_of(name), _characters(name))
        if value is not None:
            p = _put_string(p, _ascii_of(value), _characters(value))
    return 0


cdef inline Py_ssize_t _ascii_size(list pairs) except -2:
    """Return how many bytes the entries take, -1 if one is not a tuple of ASCII texts."""
    cdef Py_ssize_t total = 0
    for pair in pairs:
        if type(pair) is not tuple or len(<tuple>pair) != 2:
            return -1
        name, value = <tuple>pair
        if not (isinstance(name, str) and PyUnicode_IS_ASCII(name)):
            return -1
        total += 20 + _string_size(_characters(name))
        if value is not None:
            if not (isinstance(value, str) and PyUnicode_IS_ASCII(value)):
                return -1
            total += _string_size(_characters(value))
    return total


cdef inline int _append_other_entries(bytearray out, list pairs) except -1:
    cdef Py_ssize_t place = _length(out)
    append_offsets(out, len(pairs))
    for name, value in pairs:
        place += 4
        append_entry(out, place, name, value)
    return 0


cdef inline int append_received_entry(
    bytearray out, Py_ssize_t place, bytes buf, Py_ssize_t name, Py_ssize_t name_end, Py_ssize_t value, Py_ssize_t value_end
) except -1:
    cdef const uint8_t* name_data = _between(buf, name, name_end)
    cdef const uint8_t* value_data = _between(buf, value, value_end)
    return _append_entry(out, place, name_data, name_end - name, value_data, value_end - value)


# ------------------------------------------------------------------------------------------------------------------------ texts

cdef extern from *:
    # Eight bytes are compared together. These are eight bytes with the number 1, and eight with the high bit.
    """
    #define APISIX_EACH 0x0101010101010101ULL
    #define APISIX_HIGH 0x8080808080808080ULL
    """
    const uint64_t _EACH "APISIX_EACH"
    const uint64_t _HIGH "APISIX_HIGH"


cdef inline bint is_ascii(text) noexcept:
    return PyUnicode_IS_ASCII(text)


cdef inline bint is_lower(text) except -1:
    if not PyUnicode_IS_ASCII(text):
        return text == text.lower()
    cdef const uint8_t* data = _ascii_of(text)
    cdef Py_ssize_t size = _characters(text), index = 0
    cdef uint64_t word
    while index + 8 <= size:
        memcpy(&word, data + index, 8)
        # All bytes are below 128, so the high bits of the sums show whether a byte is at least "A", and whether it is above "Z".
        if (word + _EACH * (128 - 65)) & ~(word + _EACH * (128 - 91)) & _HIGH:
            return False
        index += 8
    while index < size:
        if c"A" <= data[index] <= c"Z":
            return False
        index += 1
    return True


cdef inline bint is_plain(text) noexcept:
    if not isinstance(text, str) or not PyUnicode_IS_ASCII(text):
        return False
    cdef const uint8_t* data = _ascii_of(text)
    cdef Py_ssize_t size = _characters(text), index = 0
    cdef uint64_t word
    while index + 8 <= size:
        memcpy(&word, data + index, 8)
        # The same method: whether a byte is at least 32, and whether it is 127.
        if ((word + _EACH * 96) & ~(word + _EACH) & _HIGH) != _HIGH:
            return False
        index += 8
    while index < size:
        if not 32 <= data[index] < 127:
            return False
        index += 1
    return True


cdef inline bint is_token(text) noexcept:
    if not isinstance(text, str) or not PyUnicode_IS_ASCII(text):
        return False
    cdef const uint8_t* data = _ascii_of(text)
    cdef Py_ssize_t size = _characters(text), index
    cdef uint8_t found = 1
    for index in range(size):
        found &= _TOKEN[data[index]]
    return found and size > 0


cdef inline uint8_t first_letter(text) noexcept:
    if not isinstance(text, str) or not PyUnicode_IS_ASCII(text) or _characters(text) == 0:
        return 0
    return _ascii_of(text)[0] & 31


cdef inline bint is_name(text, str lower) noexcept:
    if not isinstance(text, str) or not PyUnicode_IS_ASCII(text) or _characters(text) != _characters(lower) or not PyUnicode_IS_ASCII(lower):
        return False
    return _is_name(_ascii_of(text), _ascii_of(lower), _characters(lower), True)


# ------------------------------------------------------------------------------------------------------------------------ dicts


cdef inline object dict_get(mapping, key, default):
    cdef PyObject* value = PyDict_GetItemWithError(mapping, key)
    return default if value is NULL else <object>value


cdef inline bint dict_contains(mapping, key) except -1:
    return PyDict_Contains(mapping, key)


cdef inline int dict_set(mapping, key, value) except -1:
    return PyDict_SetItem(mapping, key, value)


cdef inline int dict_delete(mapping, key) except -1:
    return PyDict_DelItem(mapping, key)


cdef inline list dict_items(mapping):
    return PyDict_Items(mapping)


cdef inline bint dict_fill(mapping, list pairs) except -1:
    cdef bint lower = True
    for name, value in pairs:
        PyDict_SetItem(mapping, name, value)
        lower &= is_lower(name)
    return lower


cdef inline list dict_changes(mapping, list pairs):
    cdef Py_ssize_t position = 0, index = 0, count = len(pairs)
    cdef PyObject* name
    cdef PyObject* value
    cdef tuple pair
    cdef list changed = []
    if PyDict_Size(mapping) < count:
        return None
    # Nothing that runs in this loop can change the dict.
    while PyDict_Next(mapping, &position, &name, &value):
        if index < count:
            pair = pairs[index]
            index += 1
            if <PyObject*>pair[0] != name:
                return None
            if <PyObject*>pair[1] == value:
                continue
        changed.append((<object>name, <object>value))
    return changed


# ---------------------------------------------------------------------------------------------------------------------- sockets
#
# The sockets do not block, so the interpreter is not released: that would take longer than the call.


cdef inline Py_ssize_t _failed() except -2:
    if errno == EAGAIN or errno == EINTR:
        return -1
    PyErr_SetFromErrno(OSError)


cdef inline Py_ssize_t receive_into(sock, int descriptor, bytearray buffer) except -2:
    cdef Py_ssize_t size = _recv(descriptor, _bytes_of(buffer), _length(buffer), 0)
    return size if size >= 0 else _failed()


cdef inline bytes receive(sock, int descriptor, Py_ssize_t size):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
    cdef Py_ssize_t received = _recv(descriptor, <uint8_t*>_data(data), size, 0)
    if received < 0:
        _failed()
        return None
    return data if received == size else data[:received]


cdef inline Py_ssize_t send(sock, int descriptor, bytearray data) except -2:
    cdef Py_ssize_t size = _send(descriptor, _bytes_of(data), _length(data), MSG_NOSIGNAL)
    return size if size >= 0 else max(0, _failed())


# -------------------------------------------------------------------------------------------------- time and context variables

cdef enum:
    CAN_ENTER = 1


cdef inline double now_s() noexcept:
    return perf_counter()


cdef inline int set_variable(variable, value) except -1:
    PyContextVar_Set(variable, value)
    return 0


cdef inline int enter_context(context) except -1:
    return PyContext_Enter(context)


cdef inline int leave_context(context) except -1:
    return PyContext_Exit(context)
