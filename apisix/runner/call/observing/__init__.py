# SPDX-License-Identifier: Apache-2.0
"""
Observe what plugins do: for metrics, the development gateway and the test kit. Production runs without it, unless metrics are on.

`effects` describes what a plugin changed, `watching` finds mistakes while a hook runs, and `meter` counts outcomes and durations.
"""
