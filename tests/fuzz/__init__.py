# SPDX-License-Identifier: Apache-2.0
"""Bad input, much of it: `python -m tests.fuzz`. What it showed stands in docs/internals/reliability.md."""
