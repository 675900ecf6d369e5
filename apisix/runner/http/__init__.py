# SPDX-License-Identifier: Apache-2.0
"""
The objects that plugins use: requests, responses and replies.

`Request` and `Response` wrap a message from the gateway, record what a plugin edits, and return the message that is sent back. They share
a base, `message.HTTPMessage`. Headers and arguments are multidict views on the received frame. Whatever has to be fetched from the gateway
is an info request, whose I/O is provided by the caller: nothing here does I/O itself.

`headers` folds the case of names. `header_rules` has the headers that a reply or an edit may not send, such as content-length. `body`
decodes bodies.

May import: `errors`, `primitives` and `wire`. Start reading in `request.py`, then `multidict_view.py`.
"""
