# SPDX-License-Identifier: Apache-2.0
"""
Observe what plugins do: for metrics, the development gateway and the test kit. Production runs without it, unless metrics are on.

- `trace`: notes what happens in a call while it runs: its plugins, info requests and log lines. Start reading here.
- `edits`: what a plugin has changed. `making`: makes the record of a call from its trace.
- `watching`: finds mistakes while a hook runs, for `dev` and the test kit.
- `meter`: counts outcomes and durations.
"""
