# SPDX-License-Identifier: Apache-2.0
"""
The objects that plugins use: requests, responses and replies.

`Request` and `Response` wrap a message from the gateway, record what a plugin edits, and return the message that is sent back. They share
a base, `message.HTTPMessage`. Headers and arguments are multidict views on the received frame. Whatever has to be fetched from the gateway
is an info request, whose I/O is provided by the caller: nothing here does I/O itself.

- `request`, `response`, `reply`: the classes. `message`: the base of the first two, with the methods that fetch something.
- `multidict_view`, `mutable_multidict_view`: the views, and those that can be edited. `headers`: views of headers, in which the case of
  names is folded. `query`: the view of arguments.
- `header_rules`: the headers that a reply or an edit may not send, such as content-length.
- `info_requests`: bodies and variables that are requested from the gateway. `body/`: decompresses and parses bodies.
- `plain_data`: requests and responses as data for another process, and the edits that were made there.
- `metadata`: values that the plugins of a client's request share in all phases.
- `cookies`, `phase`, `redaction`: cookies of headers, the names of the phases, and representations without secrets. `secret_text` finds
  secrets in URLs and other texts.

May import: `errors`, `primitives` and `wire`. Start reading in `request.py`, then `multidict_view.py`.
"""
