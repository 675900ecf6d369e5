# SPDX-License-Identifier: Apache-2.0
"""What representations leave out: they end up in logs and in the output of tests."""

import re
from collections.abc import Iterable
from typing import Final

_SECRET: Final = re.compile(
    r"authoriz|authenticat|cookie|token|secret|passw|passphrase|credential|session|signature|jwt|otp$|api[-_]?key|access[-_]?key|^key$|^sig$",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Return whether the values of a header or argument of this name may be secrets, such as `authorization` and `cookie`."""
    return _SECRET.search(name) is not None


def shown(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a representation shows them: `***` is instead of what may be a secret."""
    return ", ".join(f"{name!r}: {'***' if is_secret(name) else repr(value)}" for name, value in pairs)


def names_shown(names: Iterable[str]) -> str:
    """Return names as a representation shows them, each one once."""
    return ", ".join(name if name.isprintable() else repr(name) for name in dict.fromkeys(names)) or "none"
