# SPDX-License-Identifier: Apache-2.0
"""Create files from the templates in `templates/`, for `new`: one plugin, or a project."""

import keyword
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from apisix import __all__ as author_names
from apisix import __version__
from apisix.runner.plugin.naming import kebab_case, snake_case, words_of

ENTRY_POINTS = '[project.entry-points."apisix.plugins"]'
"""The table of pyproject.toml in which the plugins of a project are listed."""

PROJECT = {
    ".dockerignore": "dockerignore",
    ".github/workflows/ci.yml": "ci.yml",
    ".gitignore": "gitignore",
    "Dockerfile": "Dockerfile",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "src/$package/__init__.py": "init.py",
    "src/$package/py.typed": "py.typed",
}
"""The files of a project, except those of its first plugin, and their templates."""


@dataclass(frozen=True, slots=True)
class Names:
    """
    The names of a plugin: in routes, in Python, and of its file.

    >>> Names.of("key-auth")
    Names(name='key-auth', cls='KeyAuth', module='key_auth')
    """

    name: str
    cls: str
    module: str

    @classmethod
    def of(cls, given: str) -> "Names":
        """
        Return all names of a plugin for one of them in any spelling: key-auth, key_auth, KeyAuth.

        Raises: ValueError: the name can't be converted to the name of a class.
        """
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*", given):
            raise ValueError(
                f"{given!r} can't be the name of a plugin; a name begins with a letter and consists of letters, digits and "
                "hyphens, as in key-auth or KeyAuth"
            )
        class_name = given if given[0].isupper() and given.isalnum() else "".join(word.capitalize() for word in words_of(given))
        if class_name in {*author_names, "None", "True", "False"}:
            raise ValueError(
                f"the class of the plugin would have the name {class_name}, which apisix or Python already uses; choose another name"
            )
        name = kebab_case(class_name)
        if len(name) > 64:
            raise ValueError(f"the name has {len(name)} characters, but a name can have at most 64, because it is the id of the route")
        return cls(name, class_name, snake_case(class_name))


@dataclass(frozen=True, slots=True)
class ProjectNames:
    """
    The names of a project: of its distribution, and of its package in Python.

    >>> ProjectNames.of("acme-plugins")
    ProjectNames(distribution='acme-plugins', package='acme_plugins')
    """

    distribution: str
    package: str

    @classmethod
    def of(cls, directory: str) -> "ProjectNames":
        """
        Return the names of a project for the name of its directory.

        Raises: ValueError: the name can't be that of a package.
        """
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*", directory):
            raise ValueError(
                f"{directory!r} can't be the name of a project; a name begins with a letter and consists of letters, digits and "
                "hyphens, as in acme-plugins"
            )
        distribution = re.sub(r"[-_.]+", "-", directory).lower()
        package = distribution.replace("-", "_")
        if package in sys.stdlib_module_names or package in ("apisix", "tests") or keyword.iskeyword(package):
            raise ValueError(f"the package of the project would have the name {package}, which is already in use; choose another name")
        return cls(distribution, package)


def render(template: str, values: Mapping[str, str]) -> str:
    """Return the text of a template with its placeholders replaced. Raise KeyError if a value is missing."""
    text = files("apisix.cli").joinpath("templates", f"{template}.template").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def plugin_files(names: Names, directory: Path) -> dict[Path, str]:
    """Return the texts of a plugin and its test, by their paths. `directory` is that of the plugin."""
    values = {"name": names.name, "cls": names.cls}
    return {
        directory / f"{names.module}.py": render("plugin/plugin.py", values),
        Path("tests", f"test_{names.module}.py"): render("plugin/test.py", values),
    }


def route(names: Names, upstream: str) -> str:
    """Return the text of a route for a plugin, one item of a list in YAML."""
    return render("plugin/route.yaml", {"name": names.name, "upstream": upstream})


def project_files(project: ProjectNames, names: Names) -> dict[Path, str]:
    """Return the texts of a project with one plugin, by their paths in its directory, except the file of routes."""
    values = {
        "distribution": project.distribution,
        "package": project.package,
        "version": __version__,
        "name": names.name,
        "cls": names.cls,
        "module": names.module,
    }
    texts = {Path(Template(path).substitute(values)): render(f"project/{template}", values) for path, template in PROJECT.items()}
    return {**texts, **plugin_files(names, Path("src", project.package))}


def package_of_project(pyproject: Path) -> str | None:
    """Return the name of the package in which a project has its plugins, None if there is no project with entry points."""
    try:
        content = tomllib.loads(pyproject.read_text(encoding="utf-8"))
        points = content["project"]["entry-points"]["apisix.plugins"]
        packages = {value.partition(":")[0].partition(".")[0] for value in points.values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    found = [package for package in packages if Path(pyproject.parent, "src", package).is_dir()]
    return found[0] if len(found) == 1 else None


def with_entry_point(text: str, package: str, names: Names) -> str | None:
    """Return a pyproject.toml with an entry point for a plugin, None if its table of entry points is not written as in the template."""
    line = f'{names.name} = "{package}.{names.module}:{names.cls}"'
    result = text.replace(f"{ENTRY_POINTS}\n", f"{ENTRY_POINTS}\n{line}\n", 1)
    try:
        content = tomllib.loads(result)
    except tomllib.TOMLDecodeError:  # there is such an entry point
        return None
    present = content.get("project", {}).get("entry-points", {}).get("apisix.plugins", {})
    return result if names.name in present else None
