# SPDX-License-Identifier: Apache-2.0
"""The import path of `PluginBase` that plugins of release 0.2 use."""

from apisix.runner.legacy.plugin_base import PluginBase

__all__ = ["PluginBase"]
