# SPDX-License-Identifier: Apache-2.0
"""
Communication between the supervisor and its workers, and between two supervisors.

- `channel`: the messages, and the socket pair that carries them together with gateway connections. Start reading here.
- `reactor`: the event loop of the supervisor: file descriptors, timers and signals, without asyncio and threads.

May import: `errors` to `call`, `settings`, `logging`, and `metrics` for the metrics in messages.
"""
