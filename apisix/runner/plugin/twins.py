# SPDX-License-Identifier: Apache-2.0
"""
Shallow copies of instances.

A module of its own because the accelerator has it twice, as `wire.scalars`: `twins.pxd` says the same in C.
"""

from typing import Any


def twin_of(cls: Any, state: dict[str, Any]) -> Any:
    """Return an instance that has the same attributes. Only for classes that keep all of them in `__dict__`."""
    twin = object.__new__(cls)
    twin.__dict__ = state.copy()
    return twin
