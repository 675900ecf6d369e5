# SPDX-License-Identifier: Apache-2.0
"""
The wire protocol between gateway and runner, without I/O: no socket, event loop, thread or clock.

- `frames`: the types of frames, and how a stream of bytes is split into frames, with the limit of their length. A new type is added here.
- `flatbuf`: reading FlatBuffers, with every offset checked against the buffer, and writing them.
- `entries`: lists of names and values, such as headers, which are decoded when they are used.
- `tables`: the base classes of all messages.
- `messages`, `call_messages`, `info_messages`: the messages of the schema.
- `connection`: the state machine of a connection, for both ends: which message is allowed in which state.

May import: `errors` and `primitives`. Start reading in `connection.py`.
"""
