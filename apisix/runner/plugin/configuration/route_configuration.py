# SPDX-License-Identifier: Apache-2.0
"""The configuration of an external plugin in a route, for which the runner issues a token."""

from dataclasses import dataclass, field
from typing import Final

from apisix.runner.http.phase import Phase

_PHASES: Final = {phase.value: phase for phase in Phase}


@dataclass(frozen=True, slots=True)
class RouteConfiguration:
    """
    The key and the plugins that the gateway sends with a PrepareConf.

    Attributes:
        key: `conf_type#conf_id#plugin-name#conf_version`, or None if the gateway is too old to send one.
        entries: the name and the value of each plugin, in the order in which they run. Not in the repr, because values can be secrets.
    """

    key: str | None
    entries: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def phase(self) -> Phase | None:
        """The phase that the key contains, or None if it contains none."""
        return phase_of(self.key)


def phase_of(key: str | None) -> Phase | None:
    """
    Return the phase that a configuration's key contains, or None if it contains none.

    There can be any number of parts before the name of the phase (ids) and after it (versions). An id can be equal to the name of a
    phase, but a version cannot. So the last name is the phase. Source: gateway contract, 3.

    >>> phase_of("route&service#a&b#ext-plugin-post-req#1&2").value
    'ext-plugin-post-req'
    """
    for part in reversed((key or "").split("#")):
        if part in _PHASES:
            return _PHASES[part]
    return None
