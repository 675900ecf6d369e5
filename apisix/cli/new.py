# SPDX-License-Identifier: Apache-2.0
"""The command `new`: create a plugin, its test and a route, or a project."""

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

import click

from apisix.cli.routes.text import RouteExists, RouteNotAdded, with_route
from apisix.cli.scaffold import Names, ProjectNames, package_of_project, plugin_files, project_files, route, with_entry_point

ROUTES_FILE = "apisix.yaml"
PROJECT_FILE = "pyproject.toml"
GATEWAY = "http://127.0.0.1:9080"  # the default address of `dev`
UPSTREAM = "127.0.0.1:1980"  # the echo upstream of `dev`
FIRST_PLUGIN = "hello"
"""The plugin of a new project, if no name is given."""

INSTALL = "pip install --editable '.[dev]'"


@click.command()
@click.argument("name", required=False)
@click.option(
    "--project",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Create a project in this directory: a package of plugins with tests, routes, a Dockerfile and a CI workflow.",
)
def new(name: str | None, project: Path | None) -> None:
    """
    Create a plugin, its test and a route for it, in the current directory. With --project, create a project with one plugin.

    NAME is the name of the plugin in routes, such as key-auth. KeyAuth has the same effect. For a project, the default is hello. Existing
    files are not overwritten.

    If the current directory has such a project, the plugin becomes part of its package.
    """
    if name is None and project is None:
        raise click.UsageError("Missing argument 'NAME'.")
    try:
        names = Names.of(FIRST_PLUGIN if name is None else name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    if project is not None:
        _new_project(project, names)
    elif (package := package_of_project(Path(PROJECT_FILE))) is not None:
        _new_plugin(names, Path("src", package))
        _add_entry_point(package, names)
        _show_steps(names, {INSTALL: "registers the plugin"}, Path("src", package))
    else:
        _new_plugin(names, Path("plugins"))
        _show_steps(names, {}, Path("plugins"))


def _new_plugin(names: Names, directory: Path) -> None:
    texts = plugin_files(names, directory)
    _refuse_present(texts)
    for path, text in texts.items():
        _write_new(path, text)
    _add_route(names)


def _new_project(directory: Path, names: Names) -> None:
    try:
        project = ProjectNames.of(directory.resolve().name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--project") from error
    texts = {**project_files(project, names), Path(ROUTES_FILE): with_route("#END\n", route(names, UPSTREAM))}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{directory} can't be created: {error.strerror}") from error
    with chdir(directory):
        _refuse_present(texts)
        for path in sorted(texts):
            _write_new(path, texts[path], directory)
    first = {f"cd {directory}": "is the directory of the project"} if directory.resolve() != Path.cwd() else {}
    _show_steps(names, {**first, INSTALL: "installs the project and its tools"}, Path("src", project.package))


def _show_steps(names: Names, first: Mapping[str, str], directory: Path) -> None:
    """Print what to do next, `first` before the rest. `directory` is that of the plugin."""
    steps = {
        **first,
        "pytest .": "runs the test",
        "apisix-runner dev": "starts a gateway, an echo upstream, and the runner",
        f"curl -i {GATEWAY}/{names.name}": "shows what the upstream received; run it in a second terminal",
    }
    width = max(map(len, steps))
    click.echo("\nNext:")
    for command, meaning in steps.items():
        click.echo(f"  {command:{width}}  {meaning}")
    click.echo(f"Edit {directory / names.module}.py, save it, and repeat the request.")


def _refuse_present(texts: Mapping[Path, str]) -> None:
    """Raise ClickException if one of the files exists."""
    present = [str(path) for path in texts if path.exists()]
    if present:
        raise click.ClickException(
            f"these files already exist: {', '.join(present)}; nothing was written. Choose another name, or remove them"
        )


def _write_new(path: Path, text: str, shown_in: Path = Path()) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(f"{shown_in / path} can't be written: {error.strerror}") from error
    click.echo(f"wrote {shown_in / path}")


def _add_route(names: Names) -> None:
    """Add the route to apisix.yaml, or print what to add to it."""
    path = Path(ROUTES_FILE)
    added = route(names, UPSTREAM)
    if not path.exists():
        _write_new(path, with_route("#END\n", added))
        return
    try:
        text = path.read_bytes().decode("utf-8")
        path.write_bytes(with_route(text, added).encode("utf-8"))
    except RouteExists as present:
        click.echo(f"{path} was not changed: {present}")
    except (RouteNotAdded, UnicodeDecodeError, OSError) as error:
        click.echo(f"{path} was not changed: {error}. Add this to its `routes`:\n\n{added}")
    else:
        click.echo(f"added the route {names.name} to {path}")


def _add_entry_point(package: str, names: Names) -> None:
    """Add the entry point to pyproject.toml, or print what to add to it."""
    path = Path(PROJECT_FILE)
    added = with_entry_point(path.read_text(encoding="utf-8"), package, names)
    if added is None:
        click.echo(
            f"{path} was not changed. Add this to its entry points of apisix.plugins:\n\n"
            f'{names.name} = "{package}.{names.module}:{names.cls}"\n'
        )
        return
    path.write_text(added, encoding="utf-8")
    click.echo(f"added the entry point {names.name} to {path}")
