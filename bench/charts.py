# SPDX-License-Identifier: Apache-2.0
"""Charts, as SVG. matplotlib is imported only here, and only if a chart is drawn."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {"compiled": "#2b6ca3", "pure": "#d9a441", "baseline": "#888888"}
_MARKS: Mapping[str, Mapping[str, Any]] = {
    "target": {"marker": "|", "color": "#d62728", "s": 220, "linewidth": 2},
    "Go runner (design, 9)": {"marker": "D", "color": "#333333", "s": 20},
}


def write_svg(path: Path, size: tuple[float, float], draw: Callable[[Any], None], columns: int = 1, rows: int = 1) -> bool:
    """
    Draw into a new figure and write it.

    Args: draw: takes the axes, an array of them if there are several.
    Returns: False if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl

        mpl.use("svg")
        from matplotlib import pyplot as plt
    except ImportError:
        return False
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"  # text as text: a third of the size, and readers can search it
    mpl.rcParams["font.size"] = 9
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    draw(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True


def bars(
    axes: Any,
    titles: Sequence[str],
    series: Mapping[str, Sequence[dict[str, float] | None]],
    marks: Mapping[str, Sequence[float | None]],
) -> None:
    """Draw horizontal bars with their spread, one for each series at each title, and draw marks over them."""
    drawn = {name: values for name, values in series.items() if any(values)}
    height = 0.8 / max(1, len(drawn))
    for number, (name, values) in enumerate(drawn.items()):
        at = [(place - 0.4 + (number + 0.5) * height, value) for place, value in enumerate(values) if value]
        axes.barh(
            [place for place, _ in at],
            [value["median"] for _, value in at],
            height,
            xerr=[
                [value["median"] - value["least"] for _, value in at],
                [value["greatest"] - value["median"] for _, value in at],
            ],
            color=COLOURS.get(name, "#4b8bbe"),
            ecolor="#333333",
            error_kw={"linewidth": 0.8},
            label=f"{name}, median and spread",
        )
    for name, numbers in marks.items():
        known = [(place, number) for place, number in enumerate(numbers) if number]
        if known:
            axes.scatter([number for _, number in known], [place for place, _ in known], label=name, zorder=3, **_MARKS.get(name, {}))
    axes.set_yticks(range(len(titles)), titles)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.legend(loc="best", fontsize="small")


def lines(axes: Any, series: Mapping[str, Sequence[tuple[float, dict[str, float]]]], *, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw lines through medians, with the spread as a band."""
    for name, points in series.items():
        across = [x for x, _ in points]
        style = dict(styles.get(name, {}))
        axes.plot(across, [y["median"] for _, y in points], marker="o", markersize=3, linewidth=1.3, label=name, **style)
        axes.fill_between(
            across, [y["least"] for _, y in points], [y["greatest"] for _, y in points], alpha=0.15, color=style.get("color"), linewidth=0
        )
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(fontsize="small")
