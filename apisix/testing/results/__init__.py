# SPDX-License-Identifier: Apache-2.0
"""
What a test examines: the result of a call.

`result.py` has the classes. `gateway_view.py` computes what the client and the upstream would get, and
`response_headers.py` lists headers that nginx treats in a special way. Start reading in `result.py`.

May import: `sending`, `running`, `http`, `wire`, and the effects of `call`.
"""
