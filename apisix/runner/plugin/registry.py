# SPDX-License-Identifier: Apache-2.0
"""All plugins that routes may name, and why others may not be named."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import chain
from pathlib import Path
from typing import Self

from apisix.runner.legacy.base import Base
from apisix.runner.plugin import sources
from apisix.runner.plugin.check import check_class
from apisix.runner.plugin.plugin_type import PluginType, Problem
from apisix.runner.plugin.sources import Failure, Loaded, Origin

logger = logging.getLogger(__name__)


class _Rank(IntEnum):
    """Whose claim to a name prevails."""

    BUILTIN = 0
    GUESS = 1
    USER = 2


@dataclass(frozen=True, slots=True)
class _Claim:
    """A name, and what wants to bear it. One that folds takes the name in upper and lower case."""

    name: str
    holder: PluginType | Problem
    rank: _Rank
    folds: bool = False


class Registry:
    """
    The plugins of one runner.

    `types` are those that routes may name, `problems` what is wrong with others, in the order of their sources.
    """

    def __init__(self) -> None:
        self.types: list[PluginType] = []
        self.problems: list[Problem] = []
        # What names lead to: those that are taken as they are written, and those that are taken without case.
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
        Import and check all plugins. Never raises for a bad one: see `problems`. Each problem is logged as an error.

        Args:
            directories: of plugin files. The files are read anew at each load.
            modules: names of modules on the path, as `package.module`.
            builtins: whether to offer `apisix.plugins`.
            entry_points: whether to offer what installed distributions declare in the group `apisix.plugins`.
        """
        registry = cls()
        origins: list[Iterable[Origin | Failure]] = [sources.builtin_origins()] if builtins else []
        origins += [sources.directory_origins(path) for path in dict.fromkeys(Path(directory).resolve() for directory in directories)]
        origins.append(map(sources.module_origin, dict.fromkeys(modules)))
        if entry_points:
            origins.append(sources.entry_point_origins())
        # All are imported before the first is checked: a class that looks like a plugin may be the common part of plugins in later files.
        results = [sources.load(origin) if isinstance(origin, Origin) else origin for origin in chain.from_iterable(origins)]
        registry._settle([claim for result in results for claim in registry._claims_of(result)])
        for problem in registry.problems:
            logger.error("a plugin is refused: %s", problem, extra={"limited": False})  # each is a different one
        return registry

    def get(self, name: str) -> PluginType | Problem | None:
        """Return what a route means by a name: a plugin, the problem that its plugin has, or None where nothing bears the name."""
        found = self._exact.get(name)
        return found if found is not None else self._folded.get(name.casefold())

    def suggest(self, name: str) -> str | None:
        """Return the nearest name of a plugin, for a route's name that is unknown."""
        close = difflib.get_close_matches(name, [plugin_type.name for plugin_type in self.types], n=1)
        return close[0] if close else None

    def _claims_of(self, result: list[Loaded] | Failure) -> Iterator[_Claim]:
        """Check the classes of a module, note the problems, and yield the claims to names."""
        if isinstance(result, Failure):
            self.problems.append(result.problem)
            rank = _Rank.BUILTIN if result.kind == "builtin" else _Rank.GUESS
            yield from (_Claim(name, result.problem, rank, folds=True) for name in result.names)
            return
        for loaded in result:
            if loaded.names is not None and loaded.cls.__subclasses__():
                continue  # the common part of others
            rank = _Rank.BUILTIN if loaded.source.kind == "builtin" else _Rank.USER
            folds = issubclass(loaded.cls, Base)
            checked = check_class(loaded.cls, loaded.source, loaded.stem)
            if isinstance(checked, PluginType):
                yield _Claim(checked.name, checked, rank, folds)
                yield from (_Claim(alias, checked, rank, folds) for alias in checked.aliases)
                continue
            self.problems += checked
            if checked[0].name is not None:
                yield _Claim(checked[0].name, checked[0], rank, folds)
            guesses = sources.names_like(loaded.stem or "") | sources.names_like(loaded.cls.__name__) | (loaded.names or frozenset())
            yield from (_Claim(name, checked[0], min(rank, _Rank.GUESS), folds=True) for name in guesses)

    def _settle(self, claims: Iterable[_Claim]) -> None:
        """Give each name to who has the best claim, or to nobody where two of the user's sources claim it."""
        by_name: dict[str, list[_Claim]] = {}
        for claim in claims:
            by_name.setdefault(claim.name.casefold(), []).append(claim)
        unused: dict[Problem, set[str]] = {}
        for folded, rivals in by_name.items():
            best = max(claim.rank for claim in rivals)
            winners = [claim for claim in rivals if claim.rank == best]
            if any(claim.folds for claim in winners):
                holders = [self._only(winners)]
                self._folded[folded] = holders[0]
            else:
                names = {claim.name for claim in winners}
                self._exact |= {name: self._only([claim for claim in winners if claim.name == name]) for name in names}
                holders = [self._exact[name] for name in names]
            if best != _Rank.BUILTIN:
                replaced = {claim.holder.name for claim in rivals if claim.rank == _Rank.BUILTIN and isinstance(claim.holder, PluginType)}
                self._tell_of_replaced(holders, replaced, unused)
        self._explain(unused)
        named = chain(self._exact.values(), self._folded.values())
        self.types = sorted({holder for holder in named if isinstance(holder, PluginType)}, key=lambda held: held.name)

    def _tell_of_replaced(self, holders: list[PluginType | Problem], replaced: set[str], unused: dict[Problem, set[str]]) -> None:
        """Log that a user's plugin takes the place of a built-in one, which may be meant or not; add to `unused` if a refused one does."""
        for name in replaced:
            for holder in holders:
                if isinstance(holder, PluginType):
                    logger.info("plugin %s of %s takes the place of the built-in one", name, holder.source)
                else:
                    unused.setdefault(holder, set()).add(name)

    def _explain(self, unused: dict[Problem, set[str]]) -> None:
        """Say in each problem which built-in plugins are not used for it: a guard that can't be loaded must not become a sample."""
        for problem, names in unused.items():
            subject = f"the built-in plugin {min(names)} is" if len(names) == 1 else f"the built-in plugins {', '.join(sorted(names))} are"
            effect = f"so routes that name {min(names) if len(names) == 1 else 'them'} are refused"
            explained = replace(problem, reason=f"{problem.reason}; {subject} not used in its place, {effect}")
            self.problems = [explained if known == problem else known for known in self.problems]
            for holders in (self._exact, self._folded):
                holders.update({name: explained for name, holder in holders.items() if holder == problem})

    def _only(self, claims: list[_Claim]) -> PluginType | Problem:
        """Return what all claims agree on, else the problem that they don't."""
        holders = {_place_of(claim.holder): claim.holder for claim in reversed(claims)}
        first = claims[0].holder
        if len(holders) == 1 or not any(isinstance(holder, PluginType) for holder in holders.values()):
            return first
        places = [f"{file}:{line}" for file, line in reversed(holders)]
        name, (file, line) = claims[0].name, _place_of(first)
        reason = f"the name {name} is offered more than once, so none of them is used: {', '.join(places)}"
        problem = Problem(name, file, line, reason, "Rename all but one of these plugins, or remove them")
        self.problems.append(problem)
        return problem


def _place_of(holder: PluginType | Problem) -> tuple[str, int]:
    """Tell two plugins apart by where they are written: one that is found by two ways is one plugin."""
    return (holder.source.file, holder.source.line) if isinstance(holder, PluginType) else (holder.file, holder.line)
