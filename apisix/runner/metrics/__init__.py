# SPDX-License-Identifier: Apache-2.0
"""
Metrics: their families and sums, collecting them in a worker, and the page that Prometheus reads.

May import: up to `ipc`. Start reading in `families.py`.
"""
