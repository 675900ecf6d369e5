# SPDX-License-Identifier: Apache-2.0
"""What is generated is up to date."""

import json
import re
from pathlib import Path

from apisix.cli.settings_docs import config_file, page
from apisix.runner.plugin.chain import build_chain
from apisix.runner.plugin.registry import Registry
from apisix.runner.settings import SETTINGS, Settings, load

CHECKOUT = Path(__file__).resolve().parent.parent


def test_settings_page() -> None:
    """docs/settings.md says what the table says; `make docs` writes it."""
    assert page() == (CHECKOUT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_settings_page_is_complete() -> None:
    """Each setting, with each of its names, stands on the page."""
    text = page()

    assert [] == [row.key for row in SETTINGS if f"### `{row.key}`" not in text or not all(f"`{name}`" in text for name in row.variables)]


def test_config_file(tmp_path: Path) -> None:
    """The shipped configuration holds nothing but the defaults, whoever edits the table."""
    file = tmp_path / "config.yaml"
    file.write_text(config_file(), encoding="utf-8")

    assert Settings() == load(file, {}, {"APISIX_LISTEN_ADDRESS": Settings().socket_file})


def test_shipped_config_file_is_up_to_date() -> None:
    """apisix/config.yaml says what the table says; `make docs` writes it."""
    assert config_file() == (CHECKOUT / "apisix" / "config.yaml").read_text(encoding="utf-8")


def test_plugin_of_the_readme(tmp_path: Path) -> None:
    """The plugin that the README shows loads, and takes a configuration."""
    (block,) = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "key_auth.py").write_text(block, encoding="utf-8")
    registry = Registry.load([tmp_path])

    assert [] == registry.problems
    assert None is build_chain(registry, [("key-auth", json.dumps({"keys": ["a"]}))], None, response=False).refusal


def test_links_of_the_readme() -> None:
    """What the README leads to is there."""
    links = re.findall(r"\]\(([^)#:]+)\)", (CHECKOUT / "README.md").read_text(encoding="utf-8"))

    assert [] == [link for link in links if not (CHECKOUT / link).exists()]
