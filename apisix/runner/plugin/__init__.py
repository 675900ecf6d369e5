# SPDX-License-Identifier: Apache-2.0
"""What a plugin is, how plugins are found and checked, and how a route's configuration becomes a chain of them."""
