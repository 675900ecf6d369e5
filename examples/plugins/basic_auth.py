# SPDX-License-Identifier: Apache-2.0
"""
Require a user name and a password. The route contains only hashes of the passwords.

When to use it: for people with browsers, an internal page, and no login service. List limit-req before it, because each
wrong password causes an expensive hash. To get the hash of a password, run this in the directory of this file:

    python -c 'import basic_auth, getpass; print(basic_auth.hash_password(getpass.getpass()))'

Task: Authentication
Keywords: basic auth, user name, password, htpasswd, scrypt
"""

import base64
import hashlib
import hmac
import secrets
from typing import Annotated

import msgspec

from apisix import Plugin, Reply, Request

Hash = Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})]  # writeOnly: hidden in records
_CHALLENGE = {"www-authenticate": 'Basic realm="restricted", charset="UTF-8"'}


def hash_password(password: str, salt: bytes = b"") -> str:
    """Return the salt and the hash in hexadecimal. The hash is slow on purpose, so that guessing passwords is slow too."""
    salt = salt or secrets.token_bytes(16)
    return salt.hex() + ":" + hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=2).hex()


class BasicAuth(Plugin[dict[str, Hash]]):
    """Refuse requests without the name and password of a user. The configuration maps users to hashes."""

    blocking = True  # hashes are slow on purpose, so run in threads, where other calls do not have to wait

    def __init__(self) -> None:
        # A fast digest of each user's correct password, with a key that only this process has. So only the first request is slow.
        self._secret = secrets.token_bytes(32)
        self._seen: dict[str, bytes] = {}

    def on_request(self, request: Request) -> Reply | None:
        scheme, _, encoded = ",".join(request.headers.getall("authorization", [])).partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return Reply(401, "authentication required", _CHALLENGE)
        if scheme.lower() != "basic" or not self._is_valid(user, password):
            return Reply(401, "authentication required", _CHALLENGE)
        request.headers.discard("authorization")  # the upstream does not need the password
        request.headers.update({"x_user": "", "x-user": user})  # many upstreams read x_user as x-user
        return None

    def _is_valid(self, user: str, password: str) -> bool:
        digest = hmac.digest(self._secret, password.encode(), "sha256")
        if hmac.compare_digest(self._seen.get(user, b""), digest):
            return True
        # Compute a hash for an unknown user too, so that the time does not show which users exist.
        stored = self.config.get(user, "00:")
        if not hmac.compare_digest(hash_password(password, bytes.fromhex(stored.partition(":")[0])), stored):
            return False
        self._seen[user] = digest
        return True
