# SPDX-License-Identifier: Apache-2.0
"""The command `new`: create a plugin, its test and a route."""

import re
from dataclasses import dataclass
from pathlib import Path

import click

import apisix
from apisix.cli.routes.text import RouteExists, RouteNotAdded, with_route
from apisix.runner.plugin.naming import kebab_case, snake_case, words_of

ROUTES_FILE = "apisix.yaml"
GATEWAY = "http://127.0.0.1:9080"  # the default address of `dev`
UPSTREAM = "127.0.0.1:1980"  # the echo upstream of `dev`

PLUGIN = '''\
"""The plugin {name}."""

from dataclasses import dataclass

from apisix import Plugin, Reply, Request


@dataclass
class {cls}Config:
    """The configuration of a route: the fields of the JSON in its `value`."""

    greeting: str = "hello"


class {cls}(Plugin[{cls}Config]):
    """Send a greeting to the upstream, and refuse requests with the argument `stop`."""

    def on_request(self, request: Request) -> Reply | None:
        if "stop" in request.args:
            return Reply(403, json={{"error": "stopped by {name}"}})
        request.headers["x-{name}"] = self.config.greeting
        return None
'''

TEST = '''\
"""Tests of the plugin {name}. `pytest .` runs them, without a gateway."""


def test_upstream_is_greeted(client):
    """The upstream gets the greeting of the route."""
    plugins = [("{name}", {{"greeting": "good morning"}})]
    result = client.get("/{name}", plugins=plugins)

    assert result.upstream.headers["x-{name}"] == "good morning"


def test_request_is_stopped(client):
    """A request with the argument `stop` does not reach the upstream."""
    result = client.get("/{name}?stop", plugins=["{name}"])

    assert result.reply.status == 403
    assert result.reply.json() == {{"error": "stopped by {name}"}}
'''

ROUTE = """\
- id: {name}
  uri: /{name}
  plugins:
    ext-plugin-pre-req:
      conf:
        - name: {name}
          value: '{{"greeting": "hello"}}'
  upstream:
    type: roundrobin
    nodes:
      "{upstream}": 1
"""


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
        if class_name in {*apisix.__all__, "None", "True", "False"}:
            raise ValueError(
                f"the class of the plugin would have the name {class_name}, which apisix or Python already uses; choose another name"
            )
        name = kebab_case(class_name)
        if len(name) > 64:
            raise ValueError(f"the name has {len(name)} characters, but a name can have at most 64, because it is the id of the route")
        return cls(name, class_name, snake_case(class_name))


@click.command()
@click.argument("name")
def new(name: str) -> None:
    """
    Create a plugin, its test and a route for it, in the current directory.

    NAME is the name of the plugin in routes, such as key-auth. KeyAuth has the same effect. Existing files are not overwritten.
    """
    try:
        names = Names.of(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    texts = {Path("plugins", f"{names.module}.py"): PLUGIN, Path("tests", f"test_{names.module}.py"): TEST}
    present = [str(path) for path in texts if path.exists()]
    if present:
        raise click.ClickException(
            f"these files already exist: {', '.join(present)}; nothing was written. Choose another name, or remove them"
        )
    for path, text in texts.items():
        _write_new(path, text.format(name=names.name, cls=names.cls))
    _add_route(names)
    steps = {
        "pytest .": "runs the test",
        "apisix-runner dev": "starts a gateway, an echo upstream, and the runner",
        f"curl -i {GATEWAY}/{names.name}": "shows what the upstream received; run it in a second terminal",
    }
    width = max(map(len, steps))
    click.echo("\nNext:")
    for command, meaning in steps.items():
        click.echo(f"  {command:{width}}  {meaning}")
    click.echo(f"Edit plugins/{names.module}.py, save it, and repeat the request.")


def _write_new(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror}") from error
    click.echo(f"wrote {path}")


def _add_route(names: Names) -> None:
    """Add the route to apisix.yaml, or print what to add to it."""
    path = Path(ROUTES_FILE)
    route = ROUTE.format(name=names.name, upstream=UPSTREAM)
    if not path.exists():
        _write_new(path, with_route("#END\n", route))
        return
    try:
        text = path.read_bytes().decode("utf-8")
        path.write_bytes(with_route(text, route).encode("utf-8"))
    except RouteExists as present:
        click.echo(f"{path} was not changed: {present}")
    except (RouteNotAdded, UnicodeDecodeError, OSError) as error:
        click.echo(f"{path} was not changed: {error}. Add this to its `routes`:\n\n{route}")
    else:
        click.echo(f"added the route {names.name} to {path}")
