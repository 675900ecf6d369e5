# SPDX-License-Identifier: Apache-2.0
"""The import path of `Base` in plugins of release 0.1."""

from apisix.runner.legacy.base import Base

__all__ = ["Base"]
