# SPDX-License-Identifier: Apache-2.0
"""
Observe what plugins do: for metrics, the development gateway and the test kit. In production it is only used if metrics are on.

- `recorder`: called by the engine for each step of a call. Start reading here.
- `trace`: records what happens in a call while it runs: its plugins, info requests and log lines.
- `edits`: describes what a plugin has changed. `making`: makes the record of a call from its trace.
- `watching`: finds mistakes while a hook runs, for `dev` and the test kit.
- `meter`: counts outcomes and durations. `metrics/collecting.py` turns them into metrics.
"""
