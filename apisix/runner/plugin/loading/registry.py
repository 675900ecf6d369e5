# SPDX-License-Identifier: Apache-2.0
"""The plugins that routes can use, and the problems of those that could not be loaded."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import chain
from pathlib import Path
from typing import Self

from apisix.runner.plugin.apis import api_of
from apisix.runner.plugin.loading import sources
from apisix.runner.plugin.loading.check import check_class
from apisix.runner.plugin.loading.sources import Loaded, NotLoaded, Origin
from apisix.runner.plugin.plugin_type import PluginType, Problem

logger = logging.getLogger(__name__)


class _Rank(IntEnum):
    """The rank of a claim to a name. The claim with the highest rank gets the name."""

    BUILTIN = 0
    GUESS = 1
    USER = 2


@dataclass(frozen=True, slots=True)
class _Claim:
    """
    A claim of a plugin to a name.

    Attributes:
        name: the name in routes.
        holder: the plugin that claims it, or the problem of that plugin.
        rank: decides between several claims to one name.
        ignores_case: True if routes can write the name in upper or lower case.
    """

    name: str
    holder: PluginType | Problem
    rank: _Rank
    ignores_case: bool = False

    @property
    def own_name(self) -> str:
        """The name of the plugin. `name` can be one of its aliases."""
        return self.holder.name if isinstance(self.holder, PluginType) else self.name


class Registry:
    """
    The plugins of one runner.

    Attributes:
        types: the plugins that routes can use, sorted by name.
        problems: the problems of those that could not be loaded, in the order of their sources.
    """

    def __init__(self) -> None:
        self.types: list[PluginType] = []
        self.problems: list[Problem] = []
        # By name: `_exact` has the names for which case matters. `_folded` has the others, in lower case.
        self._exact: dict[str, PluginType | Problem] = {}
        self._folded: dict[str, PluginType | Problem] = {}

    @classmethod
    def load(
        cls,
        directories: Sequence[str | Path] = (),
        modules: Sequence[str] = (),
        *,
        builtins: bool = True,
        entry_points: bool = True,
    ) -> Self:
        """
        Import and check all plugins. A plugin that can't be loaded does not raise an error: its problem is in `problems`, and is logged.

        Args:
            directories: directories of plugin files. The files are read again at each load.
            modules: names of modules on the path, as `package.module`.
            builtins: whether to load `apisix.plugins`.
            entry_points: whether to load the entry points of installed distributions in the group `apisix.plugins`.
        """
        registry = cls()
        origins: list[Iterable[Origin | NotLoaded]] = [sources.builtin_origins()] if builtins else []
        origins += [sources.directory_origins(path) for path in dict.fromkeys(Path(directory).resolve() for directory in directories)]
        origins.append(map(sources.module_origin, dict.fromkeys(modules)))
        if entry_points:
            origins.append(sources.entry_point_origins())
        # All modules are imported before the first class is checked: a class may be a base class of plugins in later modules.
        results = [sources.load(origin) if isinstance(origin, Origin) else origin for origin in chain.from_iterable(origins)]
        registry._settle([claim for result in results for claim in registry._claims_of(result)])
        for problem in registry.problems:
            logger.error("a plugin is refused: %s", problem, extra={"limited": False})  # each one is different
        return registry

    def get(self, name: str) -> PluginType | Problem | None:
        """Return the plugin of a name, or the problem of that plugin, or None if there is no such name."""
        found = self._exact.get(name)
        return found if found is not None else self._folded.get(name.casefold())

    def suggest(self, name: str) -> str | None:
        """Return the name of a plugin that is similar to an unknown name, or None."""
        close = difflib.get_close_matches(name, [plugin_type.name for plugin_type in self.types], n=1)
        return close[0] if close else None

    def _claims_of(self, result: list[Loaded] | NotLoaded) -> Iterator[_Claim]:
        """Check the classes of a module, add their problems to `problems`, and yield the claims to names."""
        if isinstance(result, NotLoaded):
            self.problems.append(result.problem)
            rank = _Rank.BUILTIN if result.kind == "builtin" else _Rank.GUESS
            yield from (_Claim(name, result.problem, rank, ignores_case=True) for name in result.names)
            return
        for loaded in result:
            if loaded.names is not None and loaded.cls.__subclasses__():
                continue  # a base class of plugins
            rank = _Rank.BUILTIN if loaded.source.kind == "builtin" else _Rank.USER
            api = api_of(loaded.cls)
            ignores_case = api is not None and api.ignores_case
            checked = check_class(loaded.cls, loaded.source, loaded.stem)
            if isinstance(checked, PluginType):
                yield from (_Claim(name, checked, rank, ignores_case) for name in (checked.name, *checked.aliases))
                continue
            self.problems += checked
            if checked[0].name is not None:
                yield _Claim(checked[0].name, checked[0], rank, ignores_case)
            guesses = sources.names_like(loaded.stem or "") | sources.names_like(loaded.cls.__name__) | (loaded.names or frozenset())
            yield from (_Claim(name, checked[0], min(rank, _Rank.GUESS), ignores_case=True) for name in guesses)

    def _settle(self, claims: Iterable[_Claim]) -> None:
        """Give each name to the claim with the highest rank. If two plugins of the user claim a name, neither of them gets it."""
        by_name: dict[str, list[_Claim]] = {}
        for claim in claims:
            by_name.setdefault(claim.name.casefold(), []).append(claim)
        unused: dict[Problem, set[str]] = {}
        for rivals in by_name.values():
            self._settle_name(rivals, unused)
        self._explain(unused)
        named = chain(self._exact.values(), self._folded.values())
        self.types = sorted({holder for holder in named if isinstance(holder, PluginType)}, key=lambda held: held.name)

    def _settle_name(self, rivals: list[_Claim], unused: dict[Problem, set[str]]) -> None:
        """
        Settle the claims to names that differ only in case.

        Args: unused: for each problem, the names of the built-in plugins that are not used because of it. This method adds names.
        """
        best = max(claim.rank for claim in rivals)
        winners = [claim for claim in rivals if claim.rank == best]
        losers = [claim for claim in rivals if claim.rank < best]
        if any(claim.ignores_case for claim in winners):
            holders = [self._only(winners)]
            self._folded[winners[0].name.casefold()] = holders[0]
        else:
            names = {claim.name for claim in winners}
            exact = {name: self._only([claim for claim in winners if claim.name == name]) for name in names}
            self._exact |= exact
            holders = list(exact.values())
            # A plugin with the name Stop does not replace one with the name stop, which routes can still use in any other spelling.
            kept = [claim for claim in losers if claim.own_name not in names]
            losers = [claim for claim in losers if claim.own_name in names]
            if kept:
                self._settle_name(kept, unused)
        if best != _Rank.BUILTIN:
            replaced = {claim.holder.name for claim in losers if claim.rank == _Rank.BUILTIN and isinstance(claim.holder, PluginType)}
            self._report_replaced(holders, replaced, unused)

    def _report_replaced(self, holders: list[PluginType | Problem], replaced: set[str], unused: dict[Problem, set[str]]) -> None:
        """Log which built-in plugins are replaced by plugins of the user. If one is replaced by a problem, add its name to `unused`."""
        for name in replaced:
            for holder in holders:
                if isinstance(holder, PluginType):
                    logger.info("plugin %s of %s replaces the built-in plugin", name, holder.source)
                else:
                    unused.setdefault(holder, set()).add(name)

    def _explain(self, unused: dict[Problem, set[str]]) -> None:
        """Add to each problem the built-in plugins that are not used because of it. They must not run instead of a plugin of the user."""
        for problem, names in unused.items():
            subject = f"the built-in plugin {min(names)} is" if len(names) == 1 else f"the built-in plugins {', '.join(sorted(names))} are"
            effect = f"so routes that name {min(names) if len(names) == 1 else 'them'} are refused"
            explained = replace(problem, reason=f"{problem.reason}; {subject} not used in its place, {effect}")
            self.problems = [explained if known == problem else known for known in self.problems]
            for holders in (self._exact, self._folded):
                holders.update({name: explained for name, holder in holders.items() if holder == problem})

    def _only(self, claims: list[_Claim]) -> PluginType | Problem:
        """Return the holder of all claims. If there are several, return a problem that lists them."""
        holders = {_place_of(claim.holder): claim.holder for claim in reversed(claims)}
        first = claims[0].holder
        if len(holders) == 1 or not any(isinstance(holder, PluginType) for holder in holders.values()):
            return first
        places = [f"{file}:{line}" for file, line in reversed(holders)]
        name, (file, line) = claims[0].name, _place_of(first)
        reason = f"the name {name} is used by several plugins, so none of them is loaded: {', '.join(places)}"
        problem = Problem(name, file, line, reason, "Rename all but one of these plugins, or remove them")
        self.problems.append(problem)
        return problem


def _place_of(holder: PluginType | Problem) -> tuple[str, int]:
    """Return the file and line of a plugin. They are the same if a plugin was found twice, by a directory and an entry point."""
    return (holder.source.file, holder.source.line) if isinstance(holder, PluginType) else (holder.file, holder.line)
