# SPDX-License-Identifier: Apache-2.0
"""The plugin runner: from the gateway's socket to the plugins and back."""
