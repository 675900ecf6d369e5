# SPDX-License-Identifier: Apache-2.0
"""
The bodies of requests and responses: whether they can be transferred, and how they are decompressed and parsed.

Nothing here does I/O or imports requests and responses; `http.message` and `http.response` call these functions. Imports: `errors`, `wire`.
Start with `parsing.py`. `multipart_form.py` parses forms with files. `charsets.py` has the charsets, and `content_encoding.py`
decompresses, up to a limit. `transfer.py` is about the limits between gateway and runner.
"""
