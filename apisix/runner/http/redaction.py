# SPDX-License-Identifier: Apache-2.0
"""How names and values are shown in representations, without secrets: representations end up in logs and in the output of tests."""

import re
from collections.abc import Iterable
from typing import Final

from apisix.runner.http.secret_text import replaced

_SECRET: Final = re.compile(
    r"authoriz|authenticat|cookie|token|secret|passw|passphrase|credential|session|signature|jwt|otp$|api[-_]?key|access[-_]?key|^keys?$|^sig$",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Return True if the values of a header or argument may be secrets, by its name, such as `authorization` and `cookie`."""
    return _SECRET.search(name) is not None


def shown(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values for a representation, with `***` instead of secrets."""
    return ", ".join(f"{name!r}: {_shown(name, value)}" for name, value in pairs)


def _shown(name: str, value: str) -> str:
    return "***" if is_secret(name) else repr(replaced(value, is_secret, lambda secret: "***"))


def names_shown(names: Iterable[str]) -> str:
    """Return names for a representation, each one once."""
    return ", ".join(name if name.isprintable() else repr(name) for name in dict.fromkeys(names)) or "none"
