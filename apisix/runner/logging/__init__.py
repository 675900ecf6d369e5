# SPDX-License-Identifier: Apache-2.0
"""
The log of the runner and its plugins: set-up, fields of the call that is running, the limit for repeated lines, captured output of `print`.

May import: `errors`, `settings`. Start reading in `setup.py`.
"""
