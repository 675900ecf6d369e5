# SPDX-License-Identifier: Apache-2.0
"""The wire protocol between gateway and runner, sans-I/O: no socket, event loop, thread or clock in here."""
