# SPDX-License-Identifier: Apache-2.0
"""The module from which plugins of release 0.2 import `PluginBase`."""

from apisix.runner.legacy.plugin_base import PluginBase

__all__ = ["PluginBase"]
