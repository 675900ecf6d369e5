# SPDX-License-Identifier: Apache-2.0
"""How names and values are shown in representations, without secrets: representations end up in logs and in the output of tests."""

import re
from collections.abc import Iterable
from typing import Final

from apisix.runner.http.secret_text import replaced

# Sources: the lists of Sentry, Elastic APM, OpenTelemetry and others, see tests/http/test_redaction.py. Names of keys are listed one by
# one, because others, such as `cache_key` and `sec-websocket-key`, are not secret.
_KEYS: Final = (
    "access|account|admin|api|app|application|auth|client|consumer|customer|encryption|functions|license|master|private|rapidapi|secret"
    "|security|service|shared|signing|storage|subscription|user|webhook"
)
_WORDS: Final = "csrf|cvc2?|cvv2?|hmac|mfa|oidc|pin|pwd|salt|saml\\w*|sid|sig|sign|ssn|sso|wsse|xsrf"
_SECRET: Final = re.compile(
    r"auth(?!or(?!iz))|cookie|token|secret|passw|passphrase|passcode|passkey|pwd|credential|credit|card[-_.]?num|session|sessid|signature|jwt"
    r"|bearer|assertion|principal|code[-_]?verifier|csrf|xsrf|dpop|otp$"
    rf"|(?:{_KEYS})[-_.]?key|(?<![a-z0-9])(?:{_WORDS})(?![a-z0-9])|(?<![a-z0-9])pass$|^(?:arg_|http_)?keys?$",
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
