# SPDX-License-Identifier: Apache-2.0
"""
Which route a request matches, and how it reaches an upstream.

`routes` has routes, upstreams and the router; `balancing` selects a node of an upstream; `expressions` evaluates conditions on variables;
`upstream_client` sends a request.

May import: `http`. Start reading in `routes.py`.
"""
