# SPDX-License-Identifier: Apache-2.0
"""
Ask for a user name and a password, of which only hashes stand in the route.

When to use it: people with browsers, an internal page, and no login service. Put limit-req before it, since each
wrong password costs a hash. To get the hash of a password, in this directory:

    python -c 'import basic_auth, getpass; print(basic_auth.hash_password(getpass.getpass()))'
"""

import base64
import hashlib
import hmac
import secrets

from apisix import Plugin, Reply, Request

_CHALLENGE = {"www-authenticate": 'Basic realm="restricted", charset="UTF-8"'}


def hash_password(password: str, salt: bytes = b"") -> str:
    """Return salt and hash, in hexadecimal. Takes 0.1 s and 16 MiB, and so it does for whoever tries passwords."""
    salt = salt or secrets.token_bytes(16)
    return salt.hex() + ":" + hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=2).hex()


class BasicAuth(Plugin[dict[str, str]]):
    """Let a request through only with the name and password of a user. The configuration: user to hash."""

    blocking = True  # hashes are slow by intention: in threads from the start, where they don't hold up other calls

    def __init__(self) -> None:
        # Each user's password, once it was right, as a digest under a key that only this process has: slow once, then fast.
        self._secret = secrets.token_bytes(32)
        self._seen: dict[str, bytes] = {}

    def on_request(self, request: Request) -> Reply | None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return Reply(401, "who are you?", _CHALLENGE)
        if scheme.lower() != "basic" or not self._knows(user, password):
            return Reply(401, "who are you?", _CHALLENGE)
        request.headers.discard("authorization")  # the upstream need not know the password
        request.headers["x-user"] = user
        return None

    def _knows(self, user: str, password: str) -> bool:
        digest = hmac.digest(self._secret, password.encode(), "sha256")
        if hmac.compare_digest(self._seen.get(user, b""), digest):
            return True
        # An unknown user costs a hash too: the time must not tell who exists.
        stored = self.config.get(user, "00:")
        if not hmac.compare_digest(hash_password(password, bytes.fromhex(stored.partition(":")[0])), stored):
            return False
        self._seen[user] = digest
        return True
