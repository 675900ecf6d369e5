# SPDX-License-Identifier: Apache-2.0
"""Plugins that are always loaded. A user's plugin of the same name takes the place of one of these."""
