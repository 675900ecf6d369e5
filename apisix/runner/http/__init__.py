# SPDX-License-Identifier: Apache-2.0
"""What a plugin author touches: requests, responses, replies, and how their edits become messages."""
