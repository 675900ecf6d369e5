# SPDX-License-Identifier: Apache-2.0
"""One call, from message to reply: plugins in their greenlet, task or thread, deadlines, the failure policy. I/O is injected."""
