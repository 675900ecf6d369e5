# SPDX-License-Identifier: Apache-2.0
"""Generated pages and files are up to date: `make docs` writes them."""

from pathlib import Path

import pytest

from apisix.runner.settings.loading import load
from apisix.runner.settings.table import SETTINGS, Settings
from tests.docs import api_reference, cookbook, public_api, records_reference
from tests.docs.pages import CHECKOUT, text_of
from tests.docs.settings_reference import config_file, page


def test_settings_page() -> None:
    """docs/reference/settings.md is generated from the table of settings."""
    assert text_of("reference", "settings.md") == page()


def test_settings_page_is_complete() -> None:
    """The page has each setting, with each of its names."""
    text = page()

    assert [row.key for row in SETTINGS if f"### `{row.key}`" not in text or not all(f"`{name}`" in text for name in row.variables)] == []


def test_config_file(tmp_path: Path) -> None:
    """The shipped configuration contains nothing but the defaults."""
    file = tmp_path / "config.yaml"
    file.write_text(config_file(), encoding="utf-8")

    assert load(file, {}, {"APISIX_LISTEN_ADDRESS": Settings().socket_file}) == Settings()


def test_shipped_config_file_is_up_to_date() -> None:
    """apisix/config.yaml is generated from the table of settings."""
    assert (CHECKOUT / "apisix" / "config.yaml").read_text(encoding="utf-8") == config_file()


def test_api_reference() -> None:
    """docs/reference/api.md is generated from the docstrings of the public classes."""
    assert text_of("reference", "api.md") == api_reference.page()


def test_records_reference() -> None:
    """The format of records is documented as it is."""
    assert text_of("reference", "records.md") == records_reference.page()


def test_cookbook() -> None:
    """docs/guides/cookbook.md is generated from the docstrings of the examples, and each task has recipes."""
    assert text_of("guides", "cookbook.md") == cookbook.page()
    assert {recipe.task for recipe in cookbook.recipes()} == set(cookbook.TASKS)
    assert [recipe.file.name for recipe in cookbook.recipes() if not (recipe.plugins and recipe.commands)] == []


def test_api_reference_is_complete() -> None:
    """The page has each name that a request or a response offers to plugins."""
    text = text_of("reference", "api.md")
    missing = {
        cls: [name for name in names if f"`{name}`" not in text and f"`{cls}.{name}(" not in text]
        for cls, names in api_reference.OFFERED.items()
    }

    assert missing == {"Request": [], "Response": []}


def test_public_api_page() -> None:
    """docs/reference/public-api.md lists the public names and signatures as they are. If this fails, run `make docs`."""
    assert text_of("reference", "public-api.md") == public_api.page()


def test_changes_of_the_public_api_are_in_the_changelog() -> None:
    """If this fails, name what you have added, changed or removed in the changelog, under "Unreleased"."""
    released = public_api.RELEASED.read_text(encoding="utf-8").splitlines()
    changelog = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert public_api.unnamed_changes(released, public_api.lines(), changelog) == []


@pytest.mark.parametrize(
    ("released", "present", "changelog", "unnamed"),
    [
        ("apisix.Reply.a(x: int)", "apisix.Reply.a(x: int)", "", ""),
        ("apisix.Reply.add(x: int)", "apisix.Reply.add(x: str)", "", "apisix.Reply.add(x: int) apisix.Reply.add(x: str)"),
        ("", "setting limits.x (APISIX_RUNNER_LIMITS_X)", "`limits.x`", ""),
        ("", "setting limits.x (APISIX_RUNNER_LIMITS_X)", "\n## [1.0.0]\n`limits.x`", "setting limits.x (APISIX_RUNNER_LIMITS_X)"),
        ("apisix-runner start --socket", "", "`--socket`", ""),
        ("", "apisix.Store.set(key: str)", "It is set.", "apisix.Store.set(key: str)"),
        ("", "apisix.Store.set(key: str)", "`store.set(key)`", ""),
        ("apisix-runner start --socket", "", "`start`", "apisix-runner start --socket"),
        ("", "class apisix.Thing(Exception)", "", "class apisix.Thing(Exception)"),
        ("", "class apisix.Thing(Exception)", "`Thing`", ""),
    ],
)
def test_unnamed_changes(released: str, present: str, changelog: str, unnamed: str) -> None:
    """An added, changed or removed line needs its name in the unreleased part of the changelog."""
    found = public_api.unnamed_changes([released] if released else [], [present] if present else [], f"## [Unreleased]\n{changelog}")

    assert " ".join(found) == unnamed
