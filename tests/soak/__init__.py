# SPDX-License-Identifier: Apache-2.0
"""Faults, restarts and long runs under load: `python -m tests.soak`. The results are in docs/internals/reliability.md."""
