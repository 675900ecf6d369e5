# SPDX-License-Identifier: Apache-2.0
"""The module from which plugins of release 0.1 import `Base`."""

from apisix.runner.legacy.base import Base

__all__ = ["Base"]
