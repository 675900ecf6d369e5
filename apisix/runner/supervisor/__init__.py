# SPDX-License-Identifier: Apache-2.0
"""
The supervisor process: it owns the socket, accepts connections, starts and replaces workers.

`listener` binds the socket; `credentials` decides who may connect; `worker_pool` starts, replaces and restarts workers; `watchdog` finds
stuck ones; `takeover` passes connections to a successor; `gateway_process` watches the gateway that started the runner.
May import: up to `worker`. Start reading in `supervisor.py`.
"""
