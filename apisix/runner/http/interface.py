# SPDX-License-Identifier: Apache-2.0
"""The root of the views: what makes them multidicts to whoever asks."""

from multidict import MutableMultiMapping


class Interface:
    """
    Derives from nothing and is empty, so that its subclasses can be compiled to classes in C.

    To a type checker, which reads `interface.pyi`, it is a MutableMultiMapping; `isinstance` says so too. None of the mix-ins of
    that class is inherited: they are wrong for repeated names (`items()` drops them, `==` ignores them, `update()` keeps the last).
    """

    __slots__ = ()


MutableMultiMapping.register(Interface)
