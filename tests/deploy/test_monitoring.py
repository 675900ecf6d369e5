# SPDX-License-Identifier: Apache-2.0
"""The alerts and the dashboard are PromQL, and name metrics, labels and values that exist."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from apisix.runner.supervisor.worker_pool.worker_process import Stage
from tests.docs.pages import CHECKOUT, text_of

RULES = yaml.safe_load((CHECKOUT / "deploy/prometheus/apisix-runner.rules.yaml").read_text("utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((CHECKOUT / "deploy/grafana/apisix-runner.json").read_text("utf-8"))
TARGETS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
VARIABLES = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
EXPRESSIONS = [*((rule["alert"], rule["expr"]) for rule in RULES), *TARGETS]

TABLE = {
    name: {"job", "instance", *filter(None, labels.replace(" ", "").split(","))}
    for name, labels in re.findall(r"^\| `(apisix_runner_\w+)` \| (.*?) ?\|", text_of("reference", "metrics.md"), re.MULTILINE)
}
"""The labels of each metric, with those that Prometheus adds. A test of the documentation compares its names with the code."""
HISTOGRAMS = {name for name in TABLE if name.endswith("_seconds")}
METRICS = {
    **{name: labels for name, labels in TABLE.items() if name not in HISTOGRAMS},
    **{f"{name}_bucket": TABLE[name] | {"le"} for name in HISTOGRAMS},
    **{f"{name}_{suffix}": TABLE[name] for name in HISTOGRAMS for suffix in ("sum", "count")},
}
(OUTCOMES,) = re.findall(r"Outcomes: (.+)", text_of("reference", "metrics.md"))
VALUES = {
    "outcome": set(re.findall(r"`(\w+)`", OUTCOMES)),
    "stage": {stage.value for stage in Stage},
}


def parsed(expression: str) -> Any:
    """Return the expression with values for the variables of Grafana."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def nodes(expression: Any) -> Iterator[Any]:
    """Yield an expression and all its parts."""
    yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
        part = getattr(expression, name, None)
        for each in part if isinstance(part, list) else [part]:
            if each is not None:
                yield from nodes(each)


def selectors(expression: Any) -> list[Any]:
    return [node for node in nodes(expression) if isinstance(node, promql_parser.VectorSelector)]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_expression(title: str, expression: str) -> None:
    """Metrics exist, they have the labels that select and group them, and the values of these labels exist."""
    tree = parsed(expression)
    found = selectors(tree)
    matchers = [(selector.name, matcher) for selector in found for matcher in selector.matchers.matchers]
    labels = set.intersection(*(METRICS.get(selector.name, set()) for selector in found))
    grouped = [node.modifier.labels for node in nodes(tree) if isinstance(node, promql_parser.AggregateExpr) and node.modifier]

    assert [selector.name for selector in found if selector.name not in METRICS] == [], title
    assert [matcher.name for name, matcher in matchers if matcher.name not in METRICS[name]] == []
    assert [names for names in grouped if not labels.issuperset(names)] == []
    chosen = [(matcher.name, value) for _, matcher in matchers if matcher.name in VALUES for value in matcher.value.split("|")]
    assert [(name, value) for name, value in chosen if value not in VALUES[name]] == []


@pytest.mark.parametrize("definition", VARIABLES)
def test_variable_of_the_dashboard(definition: str) -> None:
    """Each variable has the values of a label that its metric has."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", definition)
    assert found is not None
    (selector,) = selectors(parsed(found[1]))

    assert found[2] in METRICS[selector.name]


def test_panels() -> None:
    """Panels have numbers of their own and do not overlap, and their data source is the variable."""
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    sources = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if panel["type"] != "row"}

    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len(set(cells)) == len(cells)
    assert sources == {"${datasource}"}


def test_each_alert_has_a_section_in_the_runbook() -> None:
    """The link of each alert leads to its section, and there is no section for an alert that does not exist."""
    sections = re.findall(r"^### (ApisixRunner\w+)$", text_of("guides", "runbook.md"), re.MULTILINE)

    assert sections == [rule["alert"] for rule in RULES]
    assert [rule["annotations"]["runbook_url"].partition("/blob/main/")[2] for rule in RULES] == [
        f"docs/guides/runbook.md#{name.lower()}" for name in sections
    ]
