# SPDX-License-Identifier: Apache-2.0
"""The import path of `PluginBase` in plugins of release 0.2."""

from apisix.runner.legacy.plugin_base import PluginBase

__all__ = ["PluginBase"]
