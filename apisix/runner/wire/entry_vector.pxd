# SPDX-License-Identifier: Apache-2.0
# What `entry_vector.py` says, in C. Only the accelerator reads this file.

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from apisix.runner.wire.scalars cimport (
    PyBytes_FromStringAndSize, PyUnicode_AsUTF8AndSize, PyUnicode_IS_ASCII, _ascii_of, _at, _bytes_of, _characters, _data, _decoded,
    _encode_other_text, _folded, _get_u32, _grown, _is_ascii, _length, _padded, _put_string, _put_u32, _raise_struct_error, _size,
    append_places, encode_text, is_name_at, set_offset, text_at,
)

# No vtable is remembered here, since reading one costs 2 ns. Whether a position lies within the buffer is compared there and then:
# with the functions above, a name of an entry costs 100 instructions instead of 30.

cdef inline bint _find_fields(const uint8_t* data, Py_ssize_t size, Py_ssize_t pos, Py_ssize_t* name_at, Py_ssize_t* value_at) noexcept:
    """Find the fields of the entry whose offset stands at `pos`: where their offsets stand, or 0. Return whether it lies within the buffer."""
    cdef Py_ssize_t last = size - 4, table, vtable, extent
    if not 0 <= pos <= last:
        return False
    table = pos + <Py_ssize_t>_get_u32(data + pos)
    if table > last:
        return False
    vtable = table - <int32_t>_get_u32(data + table)
    if not 0 <= vtable <= last:
        return False
    extent = data[vtable] | data[vtable + 1] << 8
    if extent < 4 or extent & 1 or vtable > size - extent:
        return False
    name_at[0] = data[vtable + 4] | data[vtable + 5] << 8 if extent >= 6 else 0
    value_at[0] = data[vtable + 6] | data[vtable + 7] << 8 if extent >= 8 else 0
    if name_at[0]:
        name_at[0] += table
    if value_at[0]:
        value_at[0] += table
    return True


cdef inline Py_ssize_t entry_index(bytes buf, Py_ssize_t first, Py_ssize_t start, Py_ssize_t count, bytes name, bint ignore_case) except -2:
    cdef const uint8_t* data = _data(buf)
    cdef Py_ssize_t size = _size(buf), index, at = 0, value_at = 0
    for index in range(start, count):
        if not _find_fields(data, size, first + 4 * index, &at, &value_at) or at > size - 4:
            _raise_struct_error(first + 4 * index)
        if at:
            at += _get_u32(data + at)
            if at <= size - 4 and _get_u32(data + at) == <uint32_t>_size(name) and is_name_at(buf, at, name, ignore_case):
                return index
        elif not _size(name):
            return index
    return -1


cdef inline str _string_at(bytes buf, Py_ssize_t pos, Py_ssize_t* unfolded):
    """Return the string that the offset at `pos` refers to, and add up its bytes."""
    cdef Py_ssize_t at = pos + <Py_ssize_t>_get_u32(_at(buf, pos, 4))
    cdef Py_ssize_t size = _get_u32(_at(buf, at, 4))
    unfolded[0] += size
    return _decoded(_at(buf, at + 4, size), size)


cdef inline entry_value(bytes buf, Py_ssize_t pos):
    cdef Py_ssize_t name_at = 0, value_at = 0, unfolded = 0
    if not _find_fields(_data(buf), _size(buf), pos, &name_at, &value_at):
        _raise_struct_error(pos)
    return _string_at(buf, value_at, &unfolded) if value_at else None


cdef inline list entries_in(bytes buf, Py_ssize_t first, Py_ssize_t count, Py_ssize_t limit):
    cdef Py_ssize_t index, name_at = 0, value_at = 0, unfolded = 0
    cdef list pairs = []
    cdef object name, value
    for index in range(count):
        if not _find_fields(_data(buf), _size(buf), first + 4 * index, &name_at, &value_at):
            _raise_struct_error(first + 4 * index)
        name = _string_at(buf, name_at, &unfolded) if name_at else ""
        value = _string_at(buf, value_at, &unfolded) if value_at else None
        if unfolded > limit:
            return None
        pairs.append((name, value))
    return pairs


cdef inline uint8_t* _put_entry_start(uint8_t* p, bint has_value, Py_ssize_t value_at) noexcept:
    """Write the table of an entry and its vtable, return where its name begins. `value_at`: where the value is, from the table."""
    _put_u32(p, <uint32_t>-12)
    _put_u32(p + 4, 16)
    _put_u32(p + 8, <uint32_t>(value_at - 8) if has_value else 0)  # an offset counts from its own place
    _put_u32(p + 12, 8 | 12 << 16)
    _put_u32(p + 16, 4 | (8 << 16 if has_value else 0))
    return p + 20


cdef inline int _put_entry(bytearray out, const uint8_t* name, Py_ssize_t name_size, const uint8_t* value, Py_ssize_t value_size) except -1:
    """Append an entry; without a value where `value` is NULL."""
    cdef Py_ssize_t value_at = 20 + _padded(name_size)
    cdef uint8_t* p = _grown(out, value_at + (_padded(value_size) if value else 0))
    p = _put_string(_put_entry_start(p, value != NULL, value_at), name, name_size)
    if value:
        _put_string(p, value, value_size)
    return 0


cdef inline int append_entry(bytearray out, Py_ssize_t place, name, value) except -1:
    set_offset(out, place, _length(out) - place)
    cdef Py_ssize_t name_size = 0, value_size = 0
    cdef const uint8_t* value_data = NULL
    if not (isinstance(name, str) and PyUnicode_IS_ASCII(name)):
        return _append_encoded_entry(out, _encode_other_text(name), None if value is None else encode_text(value))
    if value is not None:
        if not (isinstance(value, str) and PyUnicode_IS_ASCII(value)):
            return _append_encoded_entry(out, encode_text(name), _encode_other_text(value))
        value_data = <const uint8_t*>PyUnicode_AsUTF8AndSize(value, &value_size)
    return _put_entry(out, <const uint8_t*>PyUnicode_AsUTF8AndSize(name, &name_size), name_size, value_data, value_size)


cdef inline int _append_encoded_entry(bytearray out, bytes name, bytes value) except -1:
    if value is None:
        return _put_entry(out, _data(name), _size(name), NULL, 0)
    return _put_entry(out, _data(name), _size(name), _data(value), _size(value))


cdef inline Py_ssize_t _ascii_size(list pairs) except -2:
    """Return how many bytes the entries take, -1 where one is not of ASCII texts alone."""
    cdef Py_ssize_t total = 0
    for pair in pairs:
        if type(pair) is not tuple or len(<tuple>pair) != 2:
            return -1
        name, value = <tuple>pair
        if not (isinstance(name, str) and PyUnicode_IS_ASCII(name)):
            return -1
        total += 20 + _padded(_characters(name))
        if value is not None:
            if not (isinstance(value, str) and PyUnicode_IS_ASCII(value)):
                return -1
            total += _padded(_characters(value))
    return total


cdef inline int append_entries(bytearray out, list pairs) except -1:
    # All entries are measured first, so that the message grows once.
    cdef Py_ssize_t count = len(pairs), size = _ascii_size(pairs)
    if size < 0:
        return _append_other_entries(out, pairs)
    cdef uint8_t* offset = _grown(out, 4 + 4 * count + size)
    cdef uint8_t* p = offset + 4 + 4 * count
    _put_u32(offset, <uint32_t>count)
    for pair in pairs:
        name, value = <tuple>pair
        offset += 4
        _put_u32(offset, <uint32_t>(p - offset))
        p = _put_entry_start(p, value is not None, 20 + _padded(_characters(name)))
        p = _put_string(p, _ascii_of(name), _characters(name))
        if value is not None:
            p = _put_string(p, _ascii_of(value), _characters(value))
    return 0


cdef inline int _append_other_entries(bytearray out, list pairs) except -1:
    cdef Py_ssize_t place = _length(out)
    append_places(out, len(pairs))
    for name, value in pairs:
        place += 4
        append_entry(out, place, name, value)
    return 0


# Entries that are found in one message and written to another.

cdef inline (Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t) entry_at(bytes buf, Py_ssize_t pos) except *:
    cdef Py_ssize_t name_at = 0, value_at = 0, name = 0, name_end = 0, value = 0, value_end = 0
    if not _find_fields(_data(buf), _size(buf), pos, &name_at, &value_at):
        _raise_struct_error(pos)
    if name_at:
        _find_string(buf, name_at, &name, &name_end)
    if value_at:
        _find_string(buf, value_at, &value, &value_end)
    return (name, name_end, value, value_end)


cdef inline int _find_string(bytes buf, Py_ssize_t pos, Py_ssize_t* start, Py_ssize_t* end) except -1:
    cdef Py_ssize_t at = pos + <Py_ssize_t>_get_u32(_at(buf, pos, 4))
    start[0] = at + 4
    end[0] = at + 4 + <Py_ssize_t>_get_u32(_at(buf, at, 4))
    if end[0] > _size(buf):
        _raise_struct_error(at)
    return 0


cdef inline uint64_t length_bit(Py_ssize_t size) noexcept:
    return <uint64_t>1 << (size & 63)


cdef inline bytes key_at(bytes buf, Py_ssize_t start, Py_ssize_t end, uint64_t lengths):
    if start < 0 or end < start or end > _size(buf):
        _raise_struct_error(start)
    cdef const uint8_t* name = _data(buf) + start
    if not _is_ascii(name, end - start):
        return _encode_other_text(text_at(buf, start, end).lower())
    if not lengths & length_bit(end - start):
        return None
    cdef bytes key = PyBytes_FromStringAndSize(NULL, end - start)  # NULL: else one of a single byte is everybody's
    cdef uint8_t* folded = <uint8_t*>_data(key)
    cdef Py_ssize_t index
    for index in range(end - start):
        folded[index] = _folded(name[index])
    return key


cdef inline int append_found(bytearray out, Py_ssize_t place, bytes buf, Py_ssize_t name, Py_ssize_t name_end, Py_ssize_t value, Py_ssize_t value_end) except -1:
    cdef Py_ssize_t size = _size(buf)
    if not 0 <= name <= name_end <= size or not 0 <= value <= value_end <= size:
        _raise_struct_error(name)
    set_offset(out, place, _length(out) - place)
    _put_entry(out, _data(buf) + name, name_end - name, _data(buf) + value, value_end - value)
    return 0
