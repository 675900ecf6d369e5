# SPDX-License-Identifier: Apache-2.0
"""How older releases of APISIX differ. Source: gateway contract, 5 and 10."""

import re
from enum import Enum

from apisix.gateway.routing.routes import DEFAULT_ROUTER, OLD_DEFAULT_ROUTER
from apisix.gateway.runner.connection_pool import READ_TIMEOUT_S, SEND_TIMEOUT_S, RunnerPool
from apisix.runner.http.phase import Phase

Version = tuple[int, ...]

EARLIEST: Version = (2, 7)
"""The first release with the protocol that is emulated."""
LATEST: Version = (3, 18)


OLD_TIMEOUT_S = 5.0
"""For sending and reading, before 2.8."""


class Quirk(Enum):
    """
    One difference of older releases: the first release that does not have it, and its description.

    A third value is the first release that has it, if it is not the earliest one.
    """

    NO_INFO_REQUESTS = ((2, 9), "no key in PrepareConf, and an info request ends the call")
    SHORT_TIMEOUTS = ((2, 8), "timeouts of 5 s for reading from and writing to the runner")
    STOP_NEEDS_A_STATUS = ((2, 8), "a Stop with status 0 is an error")
    STOP_NEEDS_VALUES = ((2, 8), "a header without a value in a Stop is an error")
    NO_BODY_REQUESTS = ((2, 12), "an info request for the request's body ends the call")
    NO_DEGRADATION = ((2, 12), "`allow_degradation` has no effect")
    NO_RESPONSE_HEADERS = ((2, 13), "response headers of a Rewrite are ignored")
    STALE_ARGS = ((2, 10, 2), "arguments that change together with the path are lost after proxy-rewrite or an info request for `args`")
    NO_RESPONSE_PHASE = ((2, 14), "there is no ext-plugin-post-resp")
    REPEATED_HEADERS_LOST = ((2, 14), "of a repeated header in a Stop or in response headers, only the last value is sent")
    NO_INFO_REQUESTS_IN_RESPONSES = ((3, 0), "an info request in the response phase ends the call")
    PROTECTED_IN_RESPONSES = ((3, 2), "ten response headers can't be set in the response phase, among them Content-Type")
    BODY_IGNORED = ((3, 6), "the body of a Rewrite is ignored")
    ALL_HEADERS = ((3, 9), "a runner gets all headers of a request, not at most 100", (2, 13))
    PATH_DROPS_QUERY = ((3, 16), "a rewritten path without a changed argument drops the query")
    STALE_HEADERS = ((3, 18), "a header set in mixed case is not seen by later phases where it was read before")

    @property
    def fixed_in(self) -> Version:
        """The first release that does not have this difference."""
        fixed_in: Version = self.value[0]
        return fixed_in

    @property
    def since(self) -> Version:
        """The first release that has this difference."""
        return self.value[2] if len(self.value) > 2 else EARLIEST

    @property
    def description(self) -> str:
        """One sentence for the documentation."""
        return str(self.value[1])


def parse_version(text: str) -> Version:
    """
    Parse a version such as `3.6` or `2.10.3`; the part after the third number is ignored.

    Raises: ValueError: the text is not a version of APISIX, or that release is not emulated.
    """
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(?:[.-].*)?$", text)
    if match is None:
        raise ValueError(f"{text!r} is not a version of APISIX; expected, for example, 3.6 or 3.18.0")
    version = tuple(int(part) for part in match.groups() if part is not None)
    if version < EARLIEST:
        raise ValueError(f"APISIX {text} is not emulated: plugin runners exist since 2.7")
    if version[:2] > LATEST:
        raise ValueError(f"APISIX {text} is not emulated: the latest release that is emulated is {release_text(LATEST)}")
    return version


def quirks_of(version: Version) -> frozenset[Quirk]:
    """Return the differences of a release."""
    return frozenset(quirk for quirk in Quirk if quirk.since <= version < quirk.fixed_in)


def unknown_plugins(quirks: frozenset[Quirk]) -> frozenset[str]:
    """Return the plugins that a release does not have."""
    return frozenset({Phase.POST_RESP.value}) if Quirk.NO_RESPONSE_PHASE in quirks else frozenset()


def default_router(version: Version) -> str:
    """Return the default of `apisix.router.http` in a release."""
    return DEFAULT_ROUTER if version >= (3, 3) else OLD_DEFAULT_ROUTER


def pool_for(path: str, quirks: frozenset[Quirk], read_timeout_s: float | None = None) -> RunnerPool:
    """Return a pool with the timeouts of a release. `read_timeout_s` replaces the one for reading."""
    usual_s = OLD_TIMEOUT_S if Quirk.SHORT_TIMEOUTS in quirks else READ_TIMEOUT_S
    send_timeout_s = OLD_TIMEOUT_S if Quirk.SHORT_TIMEOUTS in quirks else SEND_TIMEOUT_S
    return RunnerPool(path, read_timeout_s=usual_s if read_timeout_s is None else read_timeout_s, send_timeout_s=send_timeout_s)


def release_text(version: Version) -> str:
    """Return a version as text, such as `3.6`."""
    return ".".join(map(str, version))
