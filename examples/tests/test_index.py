# SPDX-License-Identifier: Apache-2.0
"""Rules for all examples."""

import ast
import json
from pathlib import Path

import pytest
import yaml

from apisix.runner.plugin.chain.builder import build_chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.records.redaction import Redactor

EXAMPLES = Path(__file__).parent.parent
FILES = sorted((EXAMPLES / "plugins").glob("*.py"))
COOKBOOK = (EXAMPLES.parent / "docs" / "guides" / "cookbook.md").read_text(encoding="utf-8")
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file(file: Path) -> None:
    """Each example is short, describes when to use it, has a test, and is part of the cookbook."""
    text = file.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 80
    assert "When to use it:" in (ast.get_docstring(ast.parse(text)) or "")
    assert (EXAMPLES / "tests" / f"test_{file.stem}.py").exists()
    assert f"(../../examples/plugins/{file.name})" in COOKBOOK


def test_routes(apisix_registry: Registry) -> None:
    """apisix.yaml has a route for each plugin, and all of them would run."""
    routes = yaml.safe_load((EXAMPLES / "apisix.yaml").read_text(encoding="utf-8"))["routes"]
    used: set[str] = set()
    for route in routes:
        for phase, plugin in route["plugins"].items():
            conf = [(entry["name"], entry["value"]) for entry in plugin["conf"]]
            configuration = RouteConfiguration(f"route#1#{phase}#1", tuple(conf))
            assert build_chain(apisix_registry, configuration, response=phase == "ext-plugin-post-resp").problem is None
            used.update(name for name, _ in conf)

    assert {plugin.name for plugin in apisix_registry.types if plugin.source.kind == "directory"} == used


def test_commands() -> None:
    """Each command of the README names a route of apisix.yaml."""
    uris = {route["uri"] for route in yaml.safe_load((EXAMPLES / "apisix.yaml").read_text(encoding="utf-8"))["routes"]}
    called = {word.removeprefix("127.0.0.1:9080") for word in README.split() if word.startswith("127.0.0.1:9080/")}

    assert called == uris - {"/allow", "/blocked", "/country", "/introspection", "/jwks", "/policy"}


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("basic-auth", "894ba9355ae5"),
        ("jwt-auth", "a secret of no less than 32 bytes"),
        ("key-auth", "alpha"),
        ("oauth2-introspection", '"secret"'),
        ("sigv4-sign", "wJalrXUtnFEMI"),
        ("webhook-github", "a secret of this hook"),
        ("webhook-stripe", "a secret of this hook"),
    ],
)
def test_secrets(apisix_registry: Registry, name: str, secret: str) -> None:
    """Records, which the inspector shows, do not contain the secrets of a configuration."""
    routes = yaml.safe_load((EXAMPLES / "apisix.yaml").read_text(encoding="utf-8"))["routes"]
    entries = [entry for route in routes for plugin in route["plugins"].values() for entry in plugin["conf"] if entry["name"] == name]
    (schema,) = (plugin.config_schema() for plugin in apisix_registry.types if plugin.name == name)

    assert secret in entries[0]["value"]
    assert secret not in Redactor().configuration(entries[0]["value"], schema)


def test_schemas(apisix_registry: Registry) -> None:
    """Each configuration has a JSON Schema, as `apisix-runner schema` prints it."""
    assert all(json.dumps(plugin.config_schema()) for plugin in apisix_registry.types)
