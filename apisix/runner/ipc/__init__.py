# SPDX-License-Identifier: Apache-2.0
"""
What supervisor and workers share to communicate: the channel with its messages and descriptors, and the event loop of the supervisor.

May import: up to `metrics`. Start reading in `channel.py`.
"""
