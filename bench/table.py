# SPDX-License-Identifier: Apache-2.0
"""
The table: processor time per call, as a multiple of a C echo server that sends the same replies, and instructions per call.

In each round the baseline is measured first, then the runner in each mode, then the peers. A ratio compares figures of the same round,
because the speed of a shared machine changes between rounds.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import instructions, peers
from bench.cases import CASES, SMOKE, Case
from bench.charts import bars
from bench.files import CannotMeasure, write_frames
from bench.modes import COMPILED, PURE, Mode, modes, newer_python
from bench.part import Scale, Target, note, spread
from bench.peers import Peer
from bench.processes import check_reply, cores, echo, load, runner, scratch

CONNECTIONS = 16
ALL_CONNECTIONS = (1, 16, 64)
LEGACY_LIMIT = 1.3
"""The most CPU time that a plugin of a legacy API may take, as a multiple of the same plugin of the new API."""
PEER_LIMIT, PEER_BODY_LIMIT = 2.0, 1.5
"""The least CPU time of a peer per call, as a multiple of the compiled runner's; the second if a body is read."""

Rounds = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class _Server:
    """A running server that is measured."""

    path: Path
    pids: Sequence[int]
    check: Callable[[Case, bytes], None] = check_reply


def measure(
    scale: Scale,
    *,
    cases: Sequence[str] = (),
    connections: Sequence[int] = (),
    wanted: Sequence[str] = (),
    others: Sequence[Peer] = (),
) -> dict[str, Any]:
    """
    Measure each case in every mode, and return a row for each.

    If a case cannot be measured, its row contains the reason, and the other cases are still measured.
    """
    names = cases or (SMOKE if scale.smoke else [case.name for case in CASES])
    chosen = [case for case in CASES if case.name in names]
    ways = modes(wanted or (COMPILED, PURE))
    newer = newer_python() if "async-noop" in names else None
    rows = []
    with scratch() as directory, ExitStack() as stack:
        servers = {mode.name: _Server(*stack.enter_context(runner(directory, mode))) for mode in ([*ways, newer] if newer else ways)}
        for case in chosen:
            shown = [name for name in servers if newer is None or name != newer.name or case.name in ("noop", "async-noop")]
            several = case.name == "noop" and not scale.smoke and not cases
            for number in connections or (ALL_CONNECTIONS if several else (CONNECTIONS,)):
                measured = _Measurement(case, number, scale, directory)
                measured.rounds({name: servers[name] for name in shown}, others if peers.takes_part(case) else ())
                rows.append(measured.row(_judged(case, newer)))
                note(f"{case.title}, {number} connections: {rows[-1]['problem'] or _in_short(rows[-1])}")
    counted = {} if scale.smoke else _instructions(chosen, ways)
    for row in rows:
        row["instructions"] = counted.get(row["case"], {})
    return {"rows": rows, "peers": [peer.name for peer in others]}


def _judged(case: Case, newer: Mode | None) -> str:
    """Return the mode to which the target of the case applies."""
    return newer.name if case.eager and newer is not None and sys.version_info < (3, 12) else COMPILED


def _instructions(chosen: Sequence[Case], ways: Sequence[Mode]) -> dict[str, dict[str, int]]:
    try:
        return instructions.count(chosen, ways)
    except CannotMeasure as problem:
        note(f"Instructions are not counted: {problem}")
        return {}


class _Measurement:
    """The rounds of one case with one number of connections."""

    def __init__(self, case: Case, connections: int, scale: Scale, directory: Path) -> None:
        self._case = case
        self._connections = connections
        self._scale = scale
        self._directory = directory
        self._frames = write_frames(case, directory)
        self._seen: Rounds = {"baseline": []}
        self._peers: Rounds = {}
        self._problem: str | None = None
        self._peer_problems: dict[str, str] = {}

    def rounds(self, servers: Mapping[str, _Server], others: Sequence[Peer]) -> None:
        """Measure everything in turn, and stop if the baseline or the runner cannot be measured."""
        try:
            for _ in range(self._scale.rounds):
                with echo(self._frames, self._directory) as (path, pids):
                    self._seen["baseline"].append(self._load(_Server(path, pids)))
                for name, server in servers.items():
                    self._seen.setdefault(name, []).append(self._load(server))
                for peer in others:
                    self._round_of(peer)
        except CannotMeasure as problem:
            self._problem = str(problem)

    def _round_of(self, peer: Peer) -> None:
        """Measure a peer, in a new process for each round. If it fails, it is not measured again."""
        if peer.name in self._peer_problems:
            return
        try:
            with peers.running(peer, self._directory, cores()[0]) as (path, pids):
                self._peers.setdefault(peer.name, []).append(self._load(_Server(path, pids, peers.check_reply)))
        except CannotMeasure as problem:
            self._peer_problems[peer.name] = str(problem)
            note(f"{peer.name}: {problem}")

    def _load(self, server: _Server) -> dict[str, Any]:
        return load(
            self._case,
            self._frames,
            server.path,
            server.pids,
            connections=self._connections,
            seconds=self._scale.seconds,
            check=server.check,
        )

    def row(self, judged: str) -> dict[str, Any]:
        """Return the row. `judged` is the mode to which the target applies."""
        baseline = self._seen["baseline"]
        ours = self._seen.get(judged) or next((rounds for name, rounds in self._seen.items() if name != "baseline"), [])
        found = {
            name: _medians(rounds) | {"ratio": _ratios(rounds, baseline), "of_ours": _ratios(rounds, ours)}
            for name, rounds in self._peers.items()
            if name not in self._peer_problems
        }
        return {
            "case": self._case.name,
            "title": self._case.title,
            "connections": self._connections,
            "target": {1: self._case.target_alone, CONNECTIONS: self._case.target}.get(self._connections),
            "judged": judged,
            "compared_with": self._case.compared_with,
            "reads_body": bool(self._case.body_bytes),
            "baseline": _medians(baseline),
            "modes": {
                name: _medians(rounds) | {"ratio": _ratios(rounds, baseline)} for name, rounds in self._seen.items() if name != "baseline"
            },
            "peers": found | {name: {"problem": problem} for name, problem in self._peer_problems.items()},
            "problem": self._problem,
        }


def _ratios(rounds: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> dict[str, float]:
    return spread([each["cpu_us_per_call"] / other["cpu_us_per_call"] for each, other in zip(rounds, others, strict=False)])


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the rounds of the load generator's results."""
    if not rounds:
        return {}
    result: dict[str, Any] = {name: round(median(seen[name] for seen in rounds), 3) for name in ("cpu_us_per_call", "calls_per_s")}
    # Well below 1, another process used the core too. CPU time is higher then (cold caches), and latency and throughput mean little.
    result["core_share"] = round(median(seen["cpu_us_per_call"] * seen["calls_per_s"] / 1e6 for seen in rounds), 2)
    return result | {f"{name}_us": round(median(seen["latency_us"][name] for seen in rounds), 1) for name in rounds[0]["latency_us"]}


def _in_short(row: dict[str, Any]) -> str:
    modes_and_peers = row["modes"] | {name: peer for name, peer in row["peers"].items() if "problem" not in peer}
    return ", ".join(f"{name} {each['ratio']['median']:.2f} x" for name, each in modes_and_peers.items())


def markdown(result: dict[str, Any]) -> str:
    """Return the rows as tables in Markdown: the runner, then the peers."""
    rows = result["rows"]
    names = list(dict.fromkeys(name for row in rows for name in row["modes"] if name in (COMPILED, PURE)))
    head = "".join(f" {name} | ratio (least to greatest) | instructions |" for name in names)
    lines = [
        f"| case | connections | baseline |{head} target | calls/s | p50 | p99 | core |",
        "|---|---:|---:|" + "---:|---:|---:|" * len(names) + "---|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row["problem"]:
            lines.append(f"| {row['title']} | {row['connections']} | not measured: {row['problem'].splitlines()[0]} |")
            continue
        first = row["modes"][names[0]]
        cells = "".join(f" {_cpu(row['modes'][name])} | {_ratio(row['modes'][name])} | {_counted(row, name)} |" for name in names)
        lines.append(
            f"| {row['title']} | {row['connections']} | {_cpu(row['baseline'])} |{cells} {_verdict(result, row)} "
            f"| {first['calls_per_s']:,.0f} | {first['p50_us']:.0f} us | {first['p99_us']:.0f} us | {first['core_share']:.0%} |"
        )
    newer = [
        f"On {name}: {row['title']} {_cpu(mode)}, {_ratio(mode)} times the baseline."
        for row in rows
        for name, mode in row["modes"].items()
        if name not in (COMPILED, PURE) and row["connections"] == CONNECTIONS
    ]
    parts = ["\n".join(lines), "\n".join(newer), _peer_table(result)]
    return "\n\n".join(part for part in parts if part)


def _peer_table(result: dict[str, Any]) -> str:
    names = result.get("peers", ())
    if not names:
        return ""
    head = "".join(f" {name} | ratio (least to greatest) | as a multiple of ours | target | calls/s |" for name in names)
    lines = [f"| other runners | connections |{head}", "|---|---:|" + "---:|---:|---:|---|---:|" * len(names)]
    for row in result["rows"]:
        if row["peers"]:
            cells = "".join(_peer_cells(row, row["peers"].get(name, {"problem": "not measured"})) for name in names)
            lines.append(f"| {row['title']} | {row['connections']} |{cells}")
    return "\n".join(lines)


def _peer_cells(row: dict[str, Any], peer: dict[str, Any]) -> str:
    if "problem" in peer:
        return f" not measured: {peer['problem'].splitlines()[0]} | | | | |"
    limit = _peer_limit(row)
    target = f">= {limit}, {'met' if peer['of_ours']['median'] >= limit else '**missed**'}" if limit else ""
    return f" {_cpu(peer)} | {_ratio(peer)} | **{peer['of_ours']['median']:.2f}** | {target} | {peer['calls_per_s']:,.0f} |"


def _peer_limit(row: dict[str, Any]) -> float | None:
    if row["connections"] != CONNECTIONS or row["judged"] not in row["modes"]:
        return None
    return PEER_BODY_LIMIT if row["reads_body"] else PEER_LIMIT


def _counted(row: dict[str, Any], name: str) -> str:
    number = row.get("instructions", {}).get(name)
    return f"{number:,}" if number else ""


def _cpu(mode: dict[str, Any]) -> str:
    return f"{mode['cpu_us_per_call']:.1f} us"


def _ratio(mode: dict[str, Any]) -> str:
    ratio = mode["ratio"]
    return f"**{ratio['median']:.2f}** ({ratio['least']:.2f} to {ratio['greatest']:.2f})"


def _verdict(result: dict[str, Any], row: dict[str, Any]) -> str:
    """Return the target and by how much it is missed."""
    if row["compared_with"]:
        limit, measured, unit = LEGACY_LIMIT, _of_new_api(result, row), " x new API"
    elif row["judged"] in row["modes"]:
        limit, measured, unit = row["target"], row["modes"][row["judged"]]["ratio"]["median"], ""
    else:
        limit, measured, unit = row["target"], None, ""
    if not limit:
        return ""
    if measured is None:
        return f"<= {limit}{unit}"
    outcome = "met" if measured <= limit else f"**missed by {measured / limit - 1:.0%}**"
    return f"<= {limit}{unit}, {f'{measured:.2f} ' if unit else ''}{outcome}"


def _of_new_api(result: dict[str, Any], row: dict[str, Any]) -> float | None:
    """Return the CPU time of a legacy plugin as a multiple of the same plugin of the new API, compiled; None if it was not measured."""
    rows = result["rows"]
    same = [row, *(other for other in rows if (other["case"], other["connections"]) == (row["compared_with"], row["connections"]))]
    ratios: list[float] = [each["modes"][COMPILED]["ratio"]["median"] for each in same if COMPILED in each["modes"] and not each["problem"]]
    return ratios[0] / ratios[1] if len(ratios) == 2 else None


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare the rows with the targets, which apply to the compiled runner. The Python fallback has none."""
    found = []
    for row in result["rows"]:
        if row["problem"]:
            continue
        title = row["title"] if row["connections"] == CONNECTIONS else f"{row['title']}, connections: {row['connections']}"
        judged = row["modes"].get(row["judged"])
        if row["target"] and judged:
            ratio = judged["ratio"]["median"]
            found.append(
                Target(f"{title}, {row['judged']}", f"<= {row['target']} x the baseline", f"{ratio:.2f} x", ratio <= row["target"])
            )
        if row["compared_with"] and (ratio := _of_new_api(result, row)):
            found.append(Target(f"{title}, {COMPILED}", f"<= {LEGACY_LIMIT} x the new API", f"{ratio:.2f} x", ratio <= LEGACY_LIMIT))
        for name, peer in row["peers"].items():
            limit = _peer_limit(row)
            if "problem" not in peer and limit:
                factor = peer["of_ours"]["median"]
                found.append(Target(f"{title}, {name} as a multiple of ours", f">= {limit} x", f"{factor:.2f} x", factor >= limit))
    return found


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the ratios as bars."""
    rows = [row for row in result["rows"] if not row["problem"] and row["connections"] == CONNECTIONS]
    ours = {name: [row["modes"].get(name, {}).get("ratio") for row in rows] for name in (COMPILED, PURE)}
    others = {name: [row["peers"].get(name, {}).get("ratio") for row in rows] for name in result.get("peers", ())}
    bars(axes, [row["title"] for row in rows], ours | others, {"target": [row["target"] for row in rows]})
    axes.axvline(1, color="#999999", linestyle=":", linewidth=1)
    axes.set_xlabel("CPU time per call, as a multiple of the baseline in the same round")
