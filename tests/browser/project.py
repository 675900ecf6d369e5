# SPDX-License-Identifier: Apache-2.0
"""The plugins and routes of the tests of the page, and `dev` that serves them."""

import contextlib
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError

from tests.dev_process import Dev

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WAIT_MS: Final = 20_000
"""How long an expectation may take to come true, in milliseconds. Only a test that fails takes this long."""

TAG = """\
import logging
from typing import Annotated, Literal

import msgspec

from apisix import Plugin, Request

logger = logging.getLogger(__name__)


class TagConfig(msgspec.Struct, forbid_unknown_fields=True):
    tenant: str
    role: Literal["reader", "writer"] = "reader"
    limit: Annotated[int, msgspec.Meta(ge=1, le=100, description="requests per second")] = 10
    strict: bool = False


class Tag(Plugin[TagConfig]):
    \"\"\"Mark the requests of a tenant.\"\"\"

    def on_request(self, request: Request) -> None:
        logger.warning("the tenant is %s", self.config.tenant)
        request.headers["x-tenant"] = self.config.tenant
        request.headers["x-scheme"] = request.var("scheme") or ""
        request.headers.discard("x-debug")
        request.args["page"] = "1"
        request.path = "/v2" + request.path
        if request.method == "POST":
            order = request.json()
            order["tenant"] = self.config.tenant
            del order["coupon"]
            request.body = msgspec.json.encode(order)
        if request.method == "PUT":
            request.body = request.read() + b"\\nfor the north\\n"
"""
GUARD = """\
from apisix import Plugin, Reply, Request


class Guard(Plugin):
    \"\"\"Refuse requests without a key.\"\"\"

    def on_request(self, request: Request) -> Reply | None:
        if "x-key" in request.headers:
            return None
        return Reply(401, json={"error": "a key is missing"})
"""
BROKEN = """\
from apisix import Plugin, Request


def price_of(order: dict[str, int]) -> int:
    return order["price"]


class Broken(Plugin):
    def on_request(self, request: Request) -> None:
        request.headers["x-price"] = str(price_of({"amount": 2}))
"""
PLUGINS: Final = {"tag.py": TAG, "guard.py": GUARD, "broken.py": BROKEN}

ROUTES: Final = """\
routes:
  - id: orders
    uri: /orders*
    plugins:
      ext-plugin-pre-req:
        conf:
          - {{name: tag, value: '{{"tenant": "north"}}'}}
    upstream_id: echo
  - id: guarded
    uri: /guarded*
    plugins:
      ext-plugin-pre-req:
        conf:
          - {{name: tag, value: '{{"tenant": "south", "limit": 5}}'}}
          - {{name: guard, value: '{{}}'}}
    upstream_id: echo
  - id: broken
    uri: /broken
    plugins: {{ext-plugin-pre-req: {{conf: [{{name: broken, value: '{{}}'}}]}}}}
    upstream_id: echo
  - id: plain
    uri: /plain*
    upstream_id: echo
upstreams:
  - id: echo
    type: roundrobin
    nodes: {{"127.0.0.1:{port}": 1}}
#END
"""

ORDER: Final = '{"item": "lamp", "coupon": "none", "amount": 2}'
"""The body of a request that the plugin `tag` edits."""


@dataclass
class Project:
    """
    A directory with plugins and routes, the process `dev` that serves it, and the address of its inspector.
    """

    dev: Dev
    inspector: str
    directory: Path

    def save(self, name: str, text: str) -> None:
        """Write a file as editors do: whole or not at all."""
        path = self.directory / name
        temporary = path.with_suffix(".saved")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    def send(self, target: str, method: str = "GET", body: str | bytes | None = None, **headers: str) -> int:
        """Send a request to the gateway, and return the status. Underscores in the names of headers become hyphens."""
        request = urllib.request.Request(  # noqa: S310  # the gateway of this test
            self.dev.gateway + target,
            method=method,
            data=body.encode() if isinstance(body, str) else body,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        try:
            with urllib.request.urlopen(request, timeout=WAIT_MS / 1000) as response:  # noqa: S310  # the gateway of this test
                status: int = response.status
                response.read()
        except HTTPError as error:
            with error:
                status = error.code
        return status


@contextlib.contextmanager
def started(directory: Path) -> Iterator[Project]:
    """Start `dev` in a directory with the plugins and routes of the tests."""
    (directory / "plugins").mkdir()
    for name, text in PLUGINS.items():
        (directory / "plugins" / name).write_text(text, encoding="utf-8")
    with Dev(directory) as dev:
        inspector = re.findall(r"inspector +(\S+)", dev.welcome)[0]
        (directory / "apisix.yaml").write_text(ROUTES.format(port=dev.upstream_port), encoding="utf-8")
        dev.event("notice", text="apisix.yaml: routes reloaded")
        yield Project(dev, inspector, directory)


def rows(page: "Page") -> "Locator":
    """Return the rows of the list."""
    return page.get_by_role("listbox", name="Requests, newest first").get_by_role("option")


def row(page: "Page", target: str) -> "Locator":
    """Return the row of the list with a target."""
    return rows(page).filter(has_text=target)
