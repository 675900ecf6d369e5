# SPDX-License-Identifier: Apache-2.0
# What `texts.py` says, in C. Only the accelerator reads this file.

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from apisix.runner.http.fields cimport check_header
from apisix.runner.wire cimport scalars

cdef extern from "Python.h":
    list PyDict_Items(object)
    bint PyUnicode_IS_COMPACT_ASCII(object)
    bint PyUnicode_CheckExact(object)
    const uint8_t* _ascii "PyUnicode_1BYTE_DATA" (object)
    Py_ssize_t _chars "PyUnicode_GET_LENGTH" (object)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    bytes PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    bytes PyUnicode_AsEncodedString(object, const char*, const char*)

cdef enum:
    FRAMING = 1
    CONTENT_TYPE = 2

cdef extern from *:
    # Eight bytes are looked at together: each with the number 1 in it, and with its high bit.
    """
    #define APISIX_EACH 0x0101010101010101ULL
    #define APISIX_HIGH 0x8080808080808080ULL
    """
    const uint64_t _EACH "APISIX_EACH"
    const uint64_t _HIGH "APISIX_HIGH"


cdef inline int special_of(list headers) except -1:
    cdef int special = 0
    for name, value in headers:
        if scalars.is_token(name) and _is_plain(value):
            special |= _special_name(_ascii(name), _chars(name))
        else:
            check_header(name, value)
            special |= _special_other(name)
    return special


cdef inline int _special_other(name) except -1:
    cdef str lower = name.lower()
    if not PyUnicode_IS_COMPACT_ASCII(lower):
        return 0
    return _special_name(_ascii(lower), _chars(lower))


cdef inline bint _is_plain(text) noexcept:
    """Tell whether a text is one of printable ASCII, which needs no closer look."""
    if not PyUnicode_CheckExact(text) or not PyUnicode_IS_COMPACT_ASCII(text):
        return False
    cdef const uint8_t* data = _ascii(text)
    cdef Py_ssize_t size = _chars(text), index = 0
    cdef uint64_t word
    while index + 8 <= size:
        memcpy(&word, data + index, 8)
        # All bytes are below 128: the high bit of each tells whether it is at least 32, and whether adding 1 makes it 128.
        if ((word + _EACH * 96) & ~(word + _EACH) & _HIGH) != _HIGH:
            return False
        index += 8
    while index < size:
        if not 32 <= data[index] < 127:
            return False
        index += 1
    return True


cdef inline int _special_name(const uint8_t* name, Py_ssize_t size) noexcept:
    if size == 12:
        return CONTENT_TYPE if _is_word(name, b"content-type", 12) else 0
    if size == 14:
        return FRAMING if _is_word(name, b"content-length", 14) else 0
    if size == 17:
        return FRAMING if _is_word(name, b"transfer-encoding", 17) else 0
    if size == 10:
        return FRAMING if _is_word(name, b"connection", 10) or _is_word(name, b"keep-alive", 10) else 0
    if size == 7:
        return FRAMING if _is_word(name, b"upgrade", 7) else 0
    if size == 2:
        return FRAMING if _is_word(name, b"te", 2) else 0
    return 0


cdef inline bint _is_word(const uint8_t* text, const uint8_t* word, Py_ssize_t size) noexcept:
    """Compare without case; the word is in lower case."""
    cdef Py_ssize_t index
    if memcmp(text, word, size) == 0:
        return True
    for index in range(size):
        if (text[index] + 32 if c"A" <= text[index] <= c"Z" else text[index]) != word[index]:
            return False
    return True


cdef inline list items_of(headers):
    return PyDict_Items(headers)


cdef inline bint is_lower(text) except -1:
    if not PyUnicode_IS_COMPACT_ASCII(text):
        return text == text.lower()
    cdef const uint8_t* data = _ascii(text)
    cdef Py_ssize_t size = _chars(text), index = 0
    cdef uint64_t word
    while index + 8 <= size:
        memcpy(&word, data + index, 8)
        # Likewise: at least "A", and above "Z".
        if (word + _EACH * (128 - 65)) & ~(word + _EACH * (128 - 91)) & _HIGH:
            return False
        index += 8
    while index < size:
        if c"A" <= data[index] <= c"Z":
            return False
        index += 1
    return True


cdef inline bytes encoded(text):
    cdef Py_ssize_t size
    cdef const char* data
    if PyUnicode_IS_COMPACT_ASCII(text):
        data = PyUnicode_AsUTF8AndSize(text, &size)
        return PyBytes_FromStringAndSize(data, size)
    return PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape")
