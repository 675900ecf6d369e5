# SPDX-License-Identifier: Apache-2.0
"""
Small plugins for the legacy APIs, which also run on releases 0.1.0 and 0.2.0.

`recorded.json` contains the outcomes of each case with the real releases. `record.py` writes it, and describes how.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import dedent, indent

ARTICLE = "0.1.0"
RELEASE_02 = "0.2.0"


@dataclass(frozen=True)
class Call:
    """A request that a case sends. `answers` has the body by the name "body", and variables by their names."""

    path: str = "/a"
    headers: tuple[tuple[str, str], ...] = (("user-agent", "curl"),)
    args: tuple[tuple[str, str | None], ...] = (("a", "1"),)
    src_ip: bytes = b"\x7f\x00\x00\x01"
    method: str = "POST"
    id: int | None = None
    answers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """
    Plugins, a configuration that contains them, and calls that are made one after another.

    Attributes:
        release: the release for which the plugins are written.
        name: the name of the case.
        plugins: the texts of the files, by their names without suffix.
        conf: the names and values of the plugins.
        calls: the requests.
    """

    release: str
    name: str
    plugins: Mapping[str, str]
    conf: tuple[tuple[str, str], ...]
    calls: tuple[Call, ...]


IMPORTS_02 = """\
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.core import PluginBase


"""
IMPORTS_01 = """\
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.base import Base


"""


def plugin_02(filter_: str, *, name: str = "probe", methods: str = "", head: str = "") -> str:
    """Return the text of a plugin of release 0.2 with this body of `filter`."""
    if "def config" not in methods:
        methods += "\ndef config(self, conf):\n    return conf\n"
    return (
        IMPORTS_02
        + dedent(head)
        + f"class {name.capitalize()}(PluginBase):\n"
        + f"    def name(self):\n        return {name!r}\n\n"
        + indent(dedent(methods), "    ")
        + "\n    def filter(self, conf, request, response):\n"
        + indent(dedent(filter_).strip("\n"), " " * 8)
        + "\n"
    )


def plugin_01(filter_: str, *, name: str = "probe", methods: str = "", head: str = "") -> str:
    """Return the text of a plugin of release 0.1 with this body of `filter`."""
    if "def __init__" not in methods:
        methods += "\ndef __init__(self):\n    super().__init__(self.__class__.__name__)\n"
    return (
        IMPORTS_01
        + dedent(head)
        + f"class {name.capitalize()}(Base):\n"
        + indent(dedent(methods), "    ")
        + "\n    def filter(self, request, response):\n"
        + indent(dedent(filter_).strip("\n"), " " * 8)
        + "\n"
    )


def case_02(name: str, filter_: str, *calls: Call, value: str = "{}", methods: str = "", head: str = "") -> Case:
    """Return a case of one plugin of release 0.2."""
    return Case(RELEASE_02, name, {"probe": plugin_02(filter_, methods=methods, head=head)}, (("probe", value),), calls or (Call(),))


def case_01(name: str, filter_: str, *calls: Call, value: str = "{}", methods: str = "", head: str = "") -> Case:
    """Return a case of one plugin of release 0.1."""
    return Case(ARTICLE, name, {"probe": plugin_01(filter_, methods=methods, head=head)}, (("probe", value),), calls or (Call(),))


def chain_02(name: str, *filters: str, calls: tuple[Call, ...] = (Call(),)) -> Case:
    """Return a case of several plugins of release 0.2, `first`, `second` and so on."""
    names = ("first", "second", "third")[: len(filters)]
    plugins = {each: plugin_02(text, name=each) for each, text in zip(names, filters, strict=True)}
    return Case(RELEASE_02, name, plugins, tuple((each, "{}") for each in names), calls)


def chain_01(name: str, *filters: str, calls: tuple[Call, ...] = (Call(),)) -> Case:
    """Return a case of several plugins of release 0.1."""
    names = ("first", "second", "third")[: len(filters)]
    plugins = {each: plugin_01(text, name=each) for each, text in zip(names, filters, strict=True)}
    return Case(ARTICLE, name, plugins, tuple((each, "{}") for each in names), calls)


def show(expression: str) -> str:
    """Return a line that sends a value to the upstream as a header, so that it is recorded."""
    return f"request.set_header('x-shown', ascii({expression}))"


GERMAN = Call(answers={"body": "für".encode()})
KEYS = tuple(Call(headers=headers) for headers in ((), (("x-key", "right"),), (), (("x-key", "wrong"),)))

CASES: tuple[Case, ...] = (
    # Release 0.2: what the response does.
    case_02("nothing", "pass"),
    case_02("stop", "response.set_status_code(403)\nresponse.set_header('x-a', '1')\nresponse.set_body('no')"),
    case_02("stop by status", "response.set_status_code(401)"),
    case_02("stop by body", "response.set_body('hello')"),
    case_02("stop by header", "response.set_header('x-a', '1')"),
    case_02("stop by headers", "response.set_headers({'x-a': '1', 'x-b': '2'})"),
    case_02("stop by dict", "response.get_headers()['x-a'] = '1'"),
    case_02("first call has the id 0", "response.set_status_code(401)", Call(id=0)),
    case_02("empty body", "response.set_body('')"),
    case_02("body None", "response.set_body(None)"),
    case_02("status 0", "response.set_status_code(0)"),
    case_02("status None", "response.set_status_code(None)"),
    case_02("status 99", "response.set_status_code(99)"),
    case_02("status 150", "response.set_status_code(150)"),
    case_02("status 600", "response.set_status_code(600)"),
    case_02("status 700 and a body", "response.set_status_code(700)\nresponse.set_body('no')"),
    case_02("status text", "response.set_status_code('401')"),
    case_02("status float", "response.set_status_code(404.0)"),
    case_02("response header empty", "response.set_header('x-a', '')"),
    case_02("response headers empty", "response.set_headers({})"),
    case_02("response header number", "response.set_header('x-a', 5)"),
    case_02("body dict", "response.set_body({'code': 401})"),
    case_02("body bytes", "response.set_body(b'no')"),
    case_02("body German", "response.set_body('für')"),
    case_02("body emptied after set", "response.set_body('no')\nresponse.set_body('')"),
    case_02("status kept", "response.set_status_code(403)\nresponse.set_status_code(0)"),
    case_02("echo of the headers", "response.set_headers(request.get_headers())\nresponse.set_body('hello')"),
    case_02(
        "response getters", show("(response.get_status_code(), response.get_body(), response.get_headers(), response.get_header('x'))")
    ),
    case_02(
        "response says what it takes",
        show(
            "(response.set_body(''), response.set_header('a', ''), response.set_headers({}), response.set_status_code(0),"
            " response.set_status_code(700), response.set_req_id(0), response.changed())"
        ),
    ),
    # Release 0.2: edits of the request.
    case_02("set header", "request.set_header('X-A', '1')"),
    case_02("set header that came", "request.set_header('user-agent', 'other')"),
    case_02("set header empty", "request.set_header('user-agent', '')"),
    case_02("set header None", "request.set_header('user-agent', None)"),
    case_02("set header number", "request.set_header('x-user-id', 42)", Call(headers=(("x-user-id", "1"),))),
    case_02("set headers", "request.set_headers({'x-a': '1'})"),
    case_02("set headers empty", "request.set_headers({})"),
    case_02("set headers, then read", "request.set_headers({'x-a': '1'})\n" + show("request.get_headers()")),
    case_02("dict of headers", "request.get_headers()['x-a'] = '1'"),
    case_02("deleted from the dict", "del request.get_headers()['user-agent']"),
    case_02("set arg", "request.set_arg('b', '2')"),
    case_02("set arg empty", "request.set_arg('a', '')"),
    case_02("set args", "request.set_args({'b': '2'})"),
    case_02("set args empty", "request.set_args({})"),
    case_02("set arg number", "request.set_arg('a', 5)"),
    case_02("set uri", "request.set_uri('/b')"),
    case_02("set uri relative", "request.set_uri('b')"),
    case_02("set uri number", "request.set_uri(5)"),
    case_02("set request body", "request.set_body('changed')"),
    case_02("set request body empty", "request.set_body('')\n" + show("request.get_body()"), GERMAN),
    case_02(
        "request says what it takes",
        show(
            "(request.set_header('a', ''), request.set_headers({}), request.set_arg('a', ''), request.set_args({}), request.set_body(''),"
            " request.set_id(0), request.set_conf_token(0), request.set_method('hello'), request.set_uri(''), request.set_remote_addr(''),"
            " request.set_var('k', ''), request.set_config('', ''), request.set_config('k', ''), request.set_configs({}))"
        ),
    ),
    case_02("set method", show("(request.set_method('put'), request.get_method())")),
    case_02("set var", show("(request.set_var('k', 'v'), request.get_var('k'))")),
    case_02(
        "getters", show("(request.get_method(), request.get_uri(), request.get_args(), request.get_arg('a'), request.get_header('none'))")
    ),
    case_02("address", show("request.get_remote_addr()")),
    case_02("address of IPv6", show("request.get_remote_addr()"), Call(src_ip=bytes(15) + b"\x01")),
    case_02("argument without value", show("request.get_args()"), Call(args=(("flag", None),))),
    case_02("repeated header", show("request.get_header('r')"), Call(headers=(("r", "1"), ("r", "2")))),
    case_02("header in capitals", show("request.get_header('User-Agent')")),
    case_02("checked", show("request.checked()")),
    case_02("log", "request.r.log.error('{} of {}', 1, 2)"),
    case_02("is a Request", show("(isinstance(request, Request), isinstance(response, Response))")),
    case_02("configs", show("request.get_configs()")),
    # Release 0.2: bodies and variables.
    case_02("body ASCII", show("request.get_body()"), Call(answers={"body": b"abc"})),
    case_02("no body", show("request.get_body()")),
    case_02("body as latin-1", show("request.get_body().encode('latin-1').decode('utf-8')"), GERMAN),
    case_02("binary body as latin-1", show("request.get_body().encode('latin-1')"), Call(answers={"body": b"\x00\xff\xfe"})),
    case_02("variable", show("request.get_var('host')"), Call(answers={"host": b"h"})),
    case_02("variable that is not set", show("request.get_var('none')")),
    # Release 0.2: instances.
    case_02(
        "guard",
        "if request.get_header('x-key') == 'right':\n    self.allowed = True\nif not self.allowed:\n    response.set_status_code(401)",
        *KEYS,
        methods="def __init__(self):\n    self.allowed = False\n",
    ),
    case_02(
        "config at each call",
        "conf['n'] += 1\n" + show("conf"),
        Call(),
        Call(),
        value='{"n": 1}',
        head="import json\n",
        methods="def config(self, conf):\n    return json.loads(conf)\n",
    ),
    case_02("config is missing", show("conf"), methods="config = PluginBase.config\ndef configure(self): pass  # def config\n"),
    case_02(
        "config fails once",
        "response.set_body('hello')",
        Call(),
        Call(),
        head="FAILURES = [1]\n",
        methods="def config(self, conf):\n    if FAILURES:\n        FAILURES.pop()\n        raise OSError('not yet')\n    return conf\n",
    ),
    case_02("super", show("(super().filter(conf, request, response), super().name(), super().config(conf))")),
    case_02("raises", "raise ValueError('wrong')"),
    case_02(
        "event loop of its own", "response.set_body(asyncio.run(hello()))", head="import asyncio\nasync def hello():\n    return 'hello'\n"
    ),
    case_02(
        "new event loop",
        "loop = asyncio.new_event_loop()\nresponse.set_body(loop.run_until_complete(hello()))\nloop.close()",
        head="import asyncio\nasync def hello():\n    return 'hello'\n",
    ),
    # Release 0.2: chains.
    chain_02("an attribute for the next plugin", "request.user = 'jack'", show("request.user")),
    chain_02(
        "edits are seen by the next plugin",
        "request.set_header('x-a', '1')\nrequest.set_var('k', 'v')",
        show("(request.get_header('x-a'), request.get_var('k'))"),
    ),
    chain_02("a stop ends the chain", "response.set_status_code(403)", "response.set_status_code(200)"),
    # Release 0.1.
    case_01("nothing", "pass"),
    case_01("stop", "response.status_code = 403\nresponse.headers = {'x-a': '1'}\nresponse.body = 'no'\nself.stop()"),
    case_01("stop without status", "response.body = 'hello'\nself.stop()"),
    case_01("rewrite", "response.headers = {'x-a': '1'}\nresponse.args = {'b': '2'}\nresponse.path = '/b'\nself.rewrite()"),
    case_01("sample", "headers = request.headers\nheaders['X-A'] = '1'\nresponse.headers = headers\nresponse.path = request.path"),
    case_01("edits of the request", "request.headers['x-a'] = '1'\nresponse.path = request.path"),
    case_01("status without stop", "response.status_code = 403\nresponse.path = request.path"),
    case_01("status text", "response.status_code = '403'\nself.stop()"),
    case_01("body dict", "response.body = {'a': 1}\nself.stop()"),
    case_01("header number", "response.headers = {'x-a': 1}\nresponse.path = request.path"),
    case_01(
        "counts",
        "self.hits += 1\nif self.hits > 2:\n    self.stop()\nresponse.path = request.path",
        Call(),
        Call(),
        Call(),
        methods="def __init__(self):\n    super().__init__('counts')\n    self.hits = 0\n",
    ),
    case_01(
        "names",
        "response.headers = {'x-shown': ascii((self.name, self._name, self.config, self._config, self.action))}\n"
        "response.path = request.path",
        value='{"a": 1}',
    ),
    case_01("action 1", "self.action = 1"),
    case_01("config that is a list", "response.headers = {'x-shown': ascii(self.config)}\nresponse.path = request.path", value="[1]"),
    case_01(
        "stop is kept for later calls",
        "response.path = request.path\nif request.path == '/stop':\n    self.stop()",
        Call("/stop"),
        Call("/go"),
    ),
    case_01(
        "address of IPv6", "response.headers = {'x-shown': request.src_ip}\nresponse.path = request.path", Call(src_ip=bytes(15) + b"\x01")
    ),
    chain_01("response is shared", "response.status_code = 403\nresponse.body = 'no'", "self.stop()"),
    chain_01("request is shared", "request.user = 'jack'", "response.headers = {'x-shown': request.user}\nresponse.path = request.path"),
    chain_01("a later rewrite undoes a stop", "response.status_code = 403\nself.stop()", "response.path = request.path\nself.rewrite()"),
)
