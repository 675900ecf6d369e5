# SPDX-License-Identifier: Apache-2.0
"""Find the release of APISIX that a config.yaml belongs to, and what it does not support. Source: gateway contract, 10."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

USUAL_PLACE: Final = Path("/usr/local/apisix/conf/config.yaml")
INFO_IN_RESPONSES: Final = (3, 0)
"""The first release that supports info requests in ext-plugin-post-resp."""
SUPPORTS_EVERYTHING: Final = (3, 6)
"""The first release that supports everything that plugins can use."""

_VERSION: Final = re.compile(r"""VERSION\s*=\s*["'](\d+)\.(\d+)(?:\.(\d+))?""")
_SERVER: Final = re.compile(r"APISIX/(\d+)\.(\d+)(?:\.(\d+))?")
_LUA: Final = "share/lua/5.1"

_LACKS: Final = (
    ((2, 9), "plugins can read neither variables nor bodies, and a call that tries to is refused"),
    ((2, 12), "plugins can't read a request's body, and a call that tries to is refused"),
    ((3, 6), "plugins can't replace a request's body, and it stays unchanged"),
)


@dataclass(frozen=True, slots=True)
class Release:
    """A release of APISIX, and the file or header that contains its number."""

    number: tuple[int, int]
    text: str
    file: Path | str

    def __str__(self) -> str:
        return f"APISIX {self.text} ({self.file})"

    def warning_of_responses(self) -> str:
        """Return what happens before 3.0 if a plugin reads the body of a response."""
        return (
            f"{self} does not support info requests in ext-plugin-post-resp. If a plugin reads the body of a response, "
            "the client gets that body unchanged, even if the plugin should hide it. This needs APISIX 3.0"
        )

    def lacks(self) -> list[str]:
        """Return what plugins can't do with this release, as sentences."""
        return [f"with {self}, {text}. This needs APISIX {'.'.join(map(str, since))}" for since, text in _LACKS if self.number < since]


def found_release(config: Path | None = None) -> Release | None:
    """
    Return the release of the gateway that a config.yaml belongs to, or None if the gateway is not installed there.

    Args: config: the gateway's config.yaml, or None for the default path.
    """
    prefix = (config or USUAL_PLACE).parent.parent
    places = [prefix, prefix / "deps" / _LUA, *([Path("/usr/local") / _LUA] if prefix == USUAL_PLACE.parent.parent else [])]
    for file in [place / "apisix" / "core" / "version.lua" for place in places]:
        try:
            match = _VERSION.search(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if match is not None:
            return Release((int(match[1]), int(match[2])), ".".join(filter(None, match.groups())), file)
    return None


def release_of_server(header: str) -> Release | None:
    """Return the release in the header Server of a gateway, such as `APISIX/3.18.0`, or None if it contains none."""
    match = _SERVER.match(header)
    if match is None:
        return None
    return Release((int(match[1]), int(match[2])), ".".join(filter(None, match.groups())), "header Server")
