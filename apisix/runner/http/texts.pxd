# SPDX-License-Identifier: Apache-2.0
# What `texts.py` says, in C. Only the accelerator reads this file.

from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from apisix.runner.http.fields cimport check_header

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


cdef inline int special_of(list headers) except -1:
    cdef int special = 0
    for name, value in headers:
        if _is_plain(name) and _is_plain(value) and _chars(name) > 0:
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
    cdef Py_ssize_t index
    cdef bint plain = True
    for index in range(_chars(text)):  # to the end in any case: so the C compiler can look at many at once
        plain &= 32 <= data[index] < 127
    return plain


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
    cdef const uint8_t* data
    cdef Py_ssize_t index
    cdef bint lower = True
    if not PyUnicode_IS_COMPACT_ASCII(text):
        return text == text.lower()
    data = _ascii(text)
    for index in range(_chars(text)):
        lower &= not c"A" <= data[index] <= c"Z"
    return lower


cdef inline bytes encoded(text):
    cdef Py_ssize_t size
    cdef const char* data
    if PyUnicode_IS_COMPACT_ASCII(text):
        data = PyUnicode_AsUTF8AndSize(text, &size)
        return PyBytes_FromStringAndSize(data, size)
    return PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape")
