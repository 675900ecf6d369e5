# SPDX-License-Identifier: Apache-2.0
"""
Replace secrets in records by digests, which are equal if and only if the secrets are equal.

Which values are secret is decided by the name of the header, argument, field or variable, by the names in the setting `record.redact`, and
in a configuration also by its JSON Schema (`writeOnly`, `secret`, or the format `password`). Other values are searched for names of
secrets, as `http/secret_text.py` describes. A secret that was found is replaced wherever else it occurs in the record: in log messages,
errors, bodies and paths.

The key of the digests is chosen at random when the process starts, and workers inherit it. The development gateway gives its own key to the
runner in an environment variable, so that both make the same digests. The digest of a password cannot be found by
trying passwords, and a plugin that compares two values finds out the same when a record is replayed.
"""

import hashlib
import os
import re
import secrets
import sys
from base64 import b64decode, urlsafe_b64decode
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Final, Literal
from urllib.parse import quote_plus, unquote, unquote_plus

import msgspec

from apisix.runner.http.redaction import is_secret
from apisix.runner.http.secret_text import MAX_ENCODINGS, Secret, is_secret_number, replaced
from apisix.runner.records.secret_forms import in_json, in_text, in_utf_16

PREFIX: Final = "redacted-"
DIGITS: Final = 16
DIGEST: Final = re.compile(rf"{PREFIX}[0-9a-f]{{{DIGITS}}}")
"""Matches a digest."""
MIN_LENGTH: Final = 6
"""How long a secret must be to be replaced wherever it occurs. A shorter one would match other text."""
MAX_OF_BODY: Final = 500
"""How many secrets of a body are replaced elsewhere. Each of them takes a search of the record."""
MAX_NAMES: Final = 4096
"""For how many names it is remembered whether their values are secret, and for how many values that they contain no secrets."""
MAX_REMEMBERED: Final = 256
"""How many characters a value may have to be remembered."""
KEY_VARIABLE: Final = "APISIX_DEV_REDACTION_KEY"
"""The environment variable for the key of the digests, in hexadecimal."""
_PROTOCOLS: Final = "sec-websocket-protocol"
_VARIABLE: Final = re.compile(r"(?:sent_|upstream_)?http_")
"""Matches the beginning of a variable that has the value of a header."""
_NEXT_COOKIE: Final = re.compile(r", ?(?=[^\s;,=]{1,128}=)")
_WORD: Final = r"(?:\d{0,2}[a-z]{1,15}\d{0,2}[a-z]{0,2}|\d{1,2})"
_PROTOCOL: Final = re.compile(rf"{_WORD}(?:[._-]{_WORD}){{0,5}}")
"""Matches what looks like the name of a protocol, such as `graphql-transport-ws`, `v12.stomp` and `ocpp2.0.1`."""
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]* +)(\S+)")
_MULTIPART: Final = "multipart/form-data"
BINARY_B: Final = 1024
"""If a body has a NUL in so many bytes from its beginning, it is binary."""
MAX_NESTING: Final = 4
"""In how many strings of JSON, each in the other, JSON is decoded. Deeper, only fields whose values are strings are found."""
_ENCODED_JSON: Final = re.compile(r"=(%(?:25){0,4}(?:7[Bb]|5[Bb])[^&#\s\"<>=]*+)")
_STRING: Final = re.compile(rb'("(?:type|kind|outcome|runs)":)?"((?:[^"\\]++|\\.)*+)"(:?)', re.DOTALL)
"""Matches a string of JSON. The first group is the name of a field that has one of a few values, and the last one is for names."""
_WORD_OF_FORMAT: Final = re.compile(rb"[a-z0-9_]+")
_NAME_FIELDS: Final = ("name", "key", "header")
_BEFORE_JSON: Final = "\ufeff \t\r\n"
_JSON: Final = ("{", "[")
# The lengths are limited, so that the time does not grow with the square of a body that was made for this.
_PART: Final = re.compile(
    r'(?i:content-disposition:)[^\r\n]{0,100}?[ ;]name="([^"\r\n]{1,100})"[^\r\n]{0,500}\r\n(?:[^\r\n]{1,500}\r\n){0,8}\r\n'
)
"""Matches the headers of a part of a multipart form."""


def _key() -> bytes:
    try:
        return bytes.fromhex(os.environ[KEY_VARIABLE])[: hashlib.blake2b.MAX_KEY_SIZE]
    except (KeyError, ValueError):
        return secrets.token_bytes(32)


_KEY: Final = _key()


def key() -> str:
    """Return the key of the digests, for a process that is to make the same ones."""
    return _KEY.hex()


def digest(value: str) -> str:
    """Return the digest that replaces a secret."""
    # Without a key, a digest could be found by trying passwords. BLAKE2 has a parameter for it, and is much faster than HMAC.
    return PREFIX + hashlib.blake2b(value.encode("utf-8", "surrogateescape"), digest_size=DIGITS // 2, key=_KEY).hexdigest()


class _SecretNames(dict[str, bool]):
    """
    Whether the values of a name are secret, for names that were looked up before.

    Args: names: further names whose values are secret, in lower case.
    Attributes: without_secrets: values in which no name of a secret was found.
    """

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self._names = names
        self.without_secrets: set[str] = set()

    def __missing__(self, name: str) -> bool:
        header = _header_of(name)
        found = name.lower() in self._names or is_secret(name) or is_secret(header) or header == _PROTOCOLS
        if len(self) >= MAX_NAMES:
            self.clear()
        self[name] = found
        return found

    def remember(self, value: str) -> None:
        """Add a value without secrets. Most headers of a request have the same values as those of others."""
        if len(value) <= MAX_REMEMBERED:
            if len(self.without_secrets) >= MAX_NAMES:
                self.without_secrets.clear()
            self.without_secrets.add(value)


def _header_of(name: str) -> str:
    """Return the name of a header in lower case, also for a variable such as `http_cookie` and `sent_http_set_cookie`."""
    lower = name.lower()
    variable = _VARIABLE.match(lower)
    return lower if variable is None else lower[variable.end() :].replace("_", "-")


_secret_names = lru_cache(8)(_SecretNames)


class Redactor:
    """
    Redacts one record.

    Args:
        names: further names whose values are secret, in lower case.
        enabled: False to change nothing.
    """

    def __init__(self, names: frozenset[str] = frozenset(), *, enabled: bool = True) -> None:
        self._secret_names = _secret_names(names)
        self._enabled = enabled
        self._most = sys.maxsize
        self._known_at_first_body: int | None = None
        self.known: dict[str, str] = {}
        """The secrets that were found, and their digests."""

    def is_secret(self, name: str) -> bool:
        """Return True if the values of a header, argument, variable or field of this name are secret."""
        return self._enabled and self._secret_names[name]

    def value(self, name: str, value: str) -> str:
        """
        Return the value of a header, argument, variable or field without secrets.

        If its name says that it is secret, it is redacted as a whole. Otherwise, the secrets that it contains are, such as those in a URL.
        """
        if not value or not self._enabled:
            return value
        if not self._secret_names[name]:
            return self._searched(value)
        header = _header_of(name)
        if header == "cookie":
            return ";".join(map(self._cookie, value.split(";")))
        if header in ("set-cookie", "set-cookie2"):
            return ", ".join(map(self._set_cookie, _NEXT_COOKIE.split(value)))
        if header == _PROTOCOLS:
            return self._protocols(value)
        if "authorization" in header:
            return self._credentials(value)
        return self.secret(value)

    def pairs(self, pairs: Iterable[tuple[str, str | None]]) -> list[tuple[str, str]]:
        """Return names and values without secrets, as `value` does. None becomes ""."""
        if not self._enabled:
            return [(name, value or "") for name, value in pairs]
        is_secret = self._secret_names
        plain = is_secret.without_secrets
        return [
            pair if pair[1] in plain and not is_secret[pair[0]] else (pair[0], self.value(pair[0], pair[1] or ""))  # type: ignore[misc]
            for pair in pairs
        ]

    def target(self, target: str) -> str:
        """Return a path, with or without a query, without the secrets that it contains."""
        return self._searched(target) if self._enabled else target

    def secret(self, value: str) -> str:
        """Return the digest of a value, and remember to replace it everywhere."""
        if not self._enabled or not value or value.startswith(PREFIX):
            return value
        found = self.known.get(value)
        if found is None:
            found = digest(value)
            if len(self.known) < self._most:
                self.known[value] = found
        return found

    def learn(self, known: Mapping[str, str]) -> None:
        """Add secrets that another redactor has found, to replace them everywhere."""
        self.known.update(known)

    def body(self, data: bytes, content_type: str) -> bytes:
        """
        Return a body without the secrets that it contains. In a binary body, these are the secrets that were found elsewhere.

        JSON is decoded and encoded if something in it is secret. In other texts, only the secrets change.
        """
        if not self._enabled or not data:
            return data
        codec = _codec_of(data, content_type)
        redacted = data
        if codec is not None:
            self._most = len(self.known) + MAX_OF_BODY
            redacted = self._text_body(data, content_type.lower(), codec)
            self._most = sys.maxsize
        for each in (codec,) if codec is not None else ("utf-8", "utf-16-le"):
            redacted = self._without_known(redacted, each)
        if self._known_at_first_body is None:
            self._known_at_first_body = len(self.known)
        return redacted

    def has_learned_since_body(self) -> bool:
        """Return True if secrets were found after the first body. Then the bodies must be redacted again, because they can contain them."""
        return self._known_at_first_body is not None and len(self.known) > self._known_at_first_body

    def _text_body(self, data: bytes, content_type: str, codec: str) -> bytes:
        errors = "surrogateescape" if codec == "utf-8" else "surrogatepass"
        end = len(data) if codec == "utf-8" else len(data) // 2 * 2
        text = data[:end].decode(codec, errors)
        redacted = self._multipart(text) if _MULTIPART in content_type else self._searched(text)
        return data if redacted == text else redacted.encode(codec, errors) + data[end:]

    def field(self, name: str, value: Any) -> Any:
        """Return the value of a field of a JSON object, in which secrets are redacted."""
        return self._field(name, value, {}, {}) if self._enabled else value

    def configuration(self, value: str, schema: Mapping[str, Any]) -> str:
        """Return the configuration of a plugin without secrets. Args: schema: its JSON Schema, {} if it is not known."""
        if not self._enabled:
            return value
        try:
            parsed = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return self.secret(value) if _marked_secret(schema) else value
        redacted = self._json(parsed, schema, schema.get("$defs", {}))
        return value if redacted == parsed else msgspec.json.encode(redacted).decode()

    def line(self, encoded: bytes) -> bytes:
        """Return an encoded record in which each secret that was found is replaced wherever it occurs in a string."""
        found = [(form, found.encode()) for form, found in self._known_forms(in_json) if form in encoded]
        if not found:
            return encoded

        def replaced_in(match: re.Match[bytes]) -> bytes:
            field, text, colon = match.groups()
            if field or (colon and _WORD_OF_FORMAT.fullmatch(text)):
                return match[0]
            for form, digest_of_it in found:
                text = text.replace(form, digest_of_it)
            return b'"%b"%b' % (text, colon)

        return _STRING.sub(replaced_in, encoded)

    def plain(self, text: str) -> str:
        """Return a text in which each secret that was found is replaced wherever it occurs, with or without the escapes of JSON."""
        return self._without_known(text.encode("utf-8", "surrogatepass"), "utf-8").decode("utf-8", "surrogatepass")

    def text(self, text: str) -> str:
        """Return a text in which each secret that was found is replaced wherever it occurs. The text must have no surrogates."""
        return str(msgspec.json.decode(self.line(msgspec.json.encode(text)))) if self.known else text

    def _known_forms(self, encoded: Callable[[str], Iterable[bytes]]) -> Iterator[tuple[bytes, str]]:
        """Yield the forms in which the secrets that were found can occur elsewhere, and their digests. The longest secret is the first."""
        for value in sorted(self.known, key=len, reverse=True):
            if len(value) >= MIN_LENGTH and value not in PREFIX:  # or digests would be replaced
                for form in encoded(value):
                    yield form, self.known[value]

    def _without_known(self, data: bytes, codec: str) -> bytes:
        for form, found in self._known_forms(in_text if codec == "utf-8" else partial(in_utf_16, codec=codec)):
            if form in data:
                data = data.replace(form, found.encode(codec))
        return data

    def _searched(self, text: str, nesting: int = 0) -> str:
        """Return a text without the secrets that it contains. Args: nesting: in how many strings of JSON it is."""
        names = self._secret_names
        if text in names.without_secrets:
            return text
        redacted = self._json_text(text, nesting) if nesting < MAX_NESTING and text.lstrip(_BEFORE_JSON)[:1] in _JSON else None
        if redacted is None:
            redacted = replaced(text, names.__getitem__, self._replacement)
            if nesting < MAX_NESTING and "%" in redacted:
                redacted = _ENCODED_JSON.sub(lambda match: f"={self._encoded_json(match[1], nesting)}", redacted)
        if redacted == text:
            names.remember(text)
        return redacted

    def _replacement(self, secret: Secret) -> str:
        if secret.is_user and not secret.value.startswith(PREFIX):
            return digest(secret.value)  # not replaced elsewhere: it can be a common word
        return self.secret(secret.value)

    def _json_text(self, text: str, nesting: int) -> str | None:
        """Return a JSON text without secrets, or None if it is not JSON as a whole."""
        start = len(text) - len(text.lstrip(_BEFORE_JSON))
        try:
            parsed = msgspec.json.decode(text[start:])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        redacted = self._json(parsed, {}, {}, nesting + 1)
        return text if redacted == parsed else text[:start] + msgspec.json.encode(redacted).decode()

    def _encoded_json(self, value: str, nesting: int) -> str:
        text, times = value, 0
        while text.startswith("%") and times <= MAX_ENCODINGS:
            text, times = unquote_plus(text, errors="surrogateescape"), times + 1
        redacted = self._searched(text, nesting + 1)
        if redacted == text:
            return value
        for _ in range(times):
            redacted = quote_plus(redacted, errors="surrogateescape")
        return redacted

    def _cookie(self, part: str) -> str:
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "", part
        secret = value.strip().strip('"')
        if not secret or name.lstrip().startswith("$"):  # `$Path`, of RFC 2965
            return part
        if "%" in secret:
            self.secret(unquote(secret, errors="surrogateescape"))  # as a plugin gets it
        before, _, after = value.partition(secret)
        return name + equals + before + self.secret(secret) + after

    def _set_cookie(self, cookie: str) -> str:
        """Return a cookie whose value is redacted, with its attributes."""
        value, semicolon, attributes = cookie.partition(";")
        return self._cookie(value) + semicolon + self._searched(attributes)

    def _protocols(self, value: str) -> str:
        """Return the names of protocols of a WebSocket, in which those that do not look like names are redacted."""
        parts, after_secret_name = [], False
        for part in value.split(","):
            name = part.strip()
            prefix, dot, token = name.rpartition(".")
            is_prefixed = bool(dot) and is_secret(prefix)  # as in base64url.bearer.authorization.k8s.io.TOKEN
            if is_prefixed:
                self._learn_encoded(token)
                parts.append(part.replace(name, f"{prefix}.{self.secret(token)}"))
            elif name and (after_secret_name or not _PROTOCOL.fullmatch(name)):
                parts.append(part.replace(name, self.secret(name)))
            else:
                parts.append(part)
            after_secret_name = not is_prefixed and is_secret(name)
        return ",".join(parts)

    def _credentials(self, value: str) -> str:
        """Return the value of an authorization header, in which the scheme is kept."""
        match = _SCHEME.fullmatch(value)
        if match is None:
            self._searched(value)  # its parts can occur elsewhere
            return self.secret(value)
        if match[1].rstrip().lower() == "basic":
            self._learn_password(match[2])
        return match[1] + self.secret(match[2])

    def _learn_encoded(self, token: str) -> None:
        with suppress(ValueError):
            self.secret(urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())

    def _learn_password(self, credentials: str) -> None:
        try:
            _, colon, password = b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:
            return
        if colon:
            self.secret(password)

    def _multipart(self, text: str) -> str:
        """Return a multipart form without secrets. A field ends where a line begins with two hyphens."""
        pieces, end = [], 0
        for part in _PART.finditer(text):
            if part.end() < end or not self.is_secret(part[1]):
                continue
            pieces.append(self._searched(text[end : part.end()]))
            end = text.find("\r\n--", part.end())
            end = len(text) if end < 0 else end
            pieces.append(self.secret(text[part.end() : end]))
        return "".join([*pieces, self._searched(text[end:])])

    def _json(self, value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], nesting: int = 0) -> Any:
        schemas = list(_alternatives(schema, definitions)) if schema else []
        if any(map(_marked_secret, schemas)):
            return self._all_strings(value)
        if isinstance(value, dict):
            # In a list of headers or variables, a name is a value, as in {"name": "password", "value": "..."}.
            named = next((value[field] for field in _NAME_FIELDS if isinstance(value.get(field), str)), "")
            hides = bool(named) and self.is_secret(named)
            return {
                name: self._field(named if hides and name == "value" else name, item, _of_field(schemas, name), definitions, nesting)
                for name, item in value.items()
            }
        if isinstance(value, list):
            items: Any = next((part["items"] for part in schemas if isinstance(part.get("items"), dict)), {})
            return [self._json(item, items, definitions, nesting) for item in value]
        return self._searched(value, nesting) if isinstance(value, str) else value

    def _field(self, name: str, value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], nesting: int = 0) -> Any:
        if not self.is_secret(name):
            return self._json(value, schema, definitions, nesting)
        if isinstance(value, str):
            return self.value(name, value)
        return self._all_strings(value) if isinstance(value, list | dict) or is_secret_number(name) else value

    def _all_strings(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.secret(value)
        if isinstance(value, list):
            return [self._all_strings(item) for item in value]
        if isinstance(value, dict):
            return {name: self._all_strings(item) for name, item in value.items()}
        return self.secret(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _codec_of(data: bytes, content_type: str) -> Literal["utf-8", "utf-16-le", "utf-16-be"] | None:
    """Return how a body is encoded, None if it is binary."""
    kind = content_type.lower()
    if data[:2] == BOM_UTF16_LE or "utf-16le" in kind:
        return "utf-16-le"
    if data[:2] == BOM_UTF16_BE or "utf-16be" in kind or "utf-16" in kind:
        return "utf-16-be"
    zeros = [byte == 0 for byte in data[:4]]  # the first characters of JSON, XML and forms are ASCII
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    if zeros == [True, False, True, False]:
        return "utf-16-be"
    return None if b"\0" in data[:BINARY_B] else "utf-8"


def _marked_secret(schema: Mapping[str, Any]) -> bool:
    return schema.get("writeOnly") is True or schema.get("secret") is True or schema.get("format") == "password"


def _alternatives(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Yield a schema and what it refers to, without following a reference twice."""
    waiting: list[Any] = [schema]
    seen: set[str] = set()
    while waiting:
        part = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        yield part
        reference = part.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            waiting.append(definitions.get(reference.rpartition("/")[2]))
        for name in ("anyOf", "oneOf", "allOf"):
            waiting += part.get(name, [])


def _of_field(schemas: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for schema in schemas:
        found = schema.get("properties", {}).get(name)
        if found is None and isinstance(schema.get("additionalProperties"), Mapping):
            found = schema["additionalProperties"]
        if isinstance(found, Mapping):
            return found
    return {}
