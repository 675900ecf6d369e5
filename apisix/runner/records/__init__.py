# SPDX-License-Identifier: Apache-2.0
"""
The record of a call: what was received, what each plugin did, what was requested from the gateway, and what was sent.

`format` is the documented format, one JSON object per line. `redaction` replaces secrets, before anything is written or shown, and
`secret_forms` has the forms in which a secret can occur elsewhere. Records are made in `call/observing/trace.py`. `dev`, the test kit,
`--record`, `replay` and the exporter of traces use them.

May import `errors`, `wire` and `http`. Start with `format.CallRecord`.
"""
