# SPDX-License-Identifier: Apache-2.0
"""Large amounts of bad input: `python -m tests.fuzz`. The results are in docs/internals/reliability.md."""
