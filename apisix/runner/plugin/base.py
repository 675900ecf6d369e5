# SPDX-License-Identifier: Apache-2.0
"""The import path of `Base` that plugins of release 0.1 use."""

from apisix.runner.legacy.base import Base

__all__ = ["Base"]
