# SPDX-License-Identifier: Apache-2.0
"""
The socket at the runner's path: who may connect to it, and which runner accepts its connections.

- `acceptor`: accepts connections until this runner stops, or another runner takes the path. Start reading here.
- `listener`: binds the socket file, and finds out whether the path still leads to it.
- `credentials`: which users may connect: the mode and owner of the file, and the user of each peer.
- `takeover`: how a runner passes its connections to another runner that has bound the same path.

May import: all packages of `runner`, and `supervisor.worker_pool`.
"""
