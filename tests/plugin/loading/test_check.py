# SPDX-License-Identifier: Apache-2.0
"""Checks of plugin classes. Each mistake is reported when the class is loaded, with its line and what to do."""

import gc
from functools import partial
from textwrap import dedent

import pytest

from apisix.runner.plugin.loading.check import is_coroutine_function
from apisix.runner.plugin.plugin_type import PluginType, Problem
from tests.plugin.conftest import Load

# The first line of the class is line 3 of the file, after HEAD of conftest.py and the newline at the start of the text.
MISTAKES = {
    "hook without request": ("def on_request(self): ...", 4, "on_request takes (self)", "Write def on_request(self, request)"),
    "hook with too much": ("def on_response(self, a, b): ...", 4, "takes (self, a, b)", "Write def on_response(self, response)"),
    "keyword-only": ("def on_request(self, *, request): ...", 4, "takes (self, *, request)", "Write def on_request(self, request)"),
    "static": ("@staticmethod\n    def on_request(): ...", 4, "takes ()", "Write def on_request(self, request)"),
    "no function": ("on_request = 1", 3, "on_request is not a function", "Write def on_request(self, request)"),
    "generator": ("def on_request(self, request): yield", 4, "is a generator", "Return a Reply or None"),
    "async generator": ("async def on_request(self, request): yield", 4, "is a generator", "Return a Reply or None"),
    "misspelt": ("def on_reqest(self, request): ...", 4, "on_reqest is not a hook", "If you mean on_request(self, request), rename it"),
    "misspelt response": ("def on_responce(self, response): ...", 4, "on_responce is not a hook", "mean on_response(self, response)"),
    "camel": ("def onRequest(self, request): ...", 4, "onRequest is not a hook", "mean on_request(self, request)"),
    "unknown event": ("def on_connect(self): ...", 4, "on_connect is not a hook", "The hooks are on_request, on_response"),
    "async prefix": ("async def async_setup(self): ...", 4, "async_setup is not a hook", "mean setup(self)"),
    "aclose": ("async def aclose(self): ...", 4, "aclose is not a hook", "mean close(self)"),
    "misspelt static": ("@staticmethod\n    def on_reqest(request): ...", 4, "on_reqest is not a hook", "mean on_request"),
    "plain setup": (
        "def on_request(self, request): ...\n    def setup(self): ...",
        5,
        "setup is not a coroutine function",
        "async def setup(self)",
    ),
    "setup with arguments": ("async def setup(self, loop): ...", 4, "setup takes (self, loop)", "Write def setup(self)"),
    "init": (
        "def __init__(self, config): ...\n    def on_request(self, request): ...",
        4,
        "__init__ takes (self, config)",
        "Write def __init__(self)",
    ),
    "needs a str": ('needs = "body"', 3, "needs must be a tuple of str", 'Write needs = ("body",)'),
    "needs a list": ('needs = ["body"]', 3, "needs must be a tuple of str", 'Write needs = ("body", "consumer_name")'),
    "needs numbers": ("needs = (1,)", 3, "needs must be a tuple of str", "Write needs ="),
    "runs_in": ('runs_in = "thread"', 3, "runs_in must be 'process' or None, not 'thread'", 'Write runs_in = "process"'),
    "once without background": ("once = True", 3, "has once = True, but no background", "Write async def background(self)"),
    "once": ('once = "yes"', 3, "once must be True or False, not 'yes'", "Write once = True"),
    "plain background": ("def background(self): ...", 4, "background is not a coroutine function", "Write async def background(self)"),
    "runs_in and background": (
        'runs_in = "process"\n    async def background(self): ...',
        5,
        "has runs_in = 'process' and a background",
        "Move background into another plugin",
    ),
    "runs_in and inline": ('runs_in = "process"\n    inline = True', 3, "contradict each other", "Remove inline"),
    "blocking": ('blocking = "yes"', 3, "blocking must be True, False or None", "Remove it"),
    "on_error": ('on_error = "ignore"', 3, "on_error must be one of 'refuse', 'pass', 'degrade'", "Choose one of these"),
    "on_error method": ("def on_error(self): ...", 3, "on_error must be one of", "Choose one of these"),
    "unhashable on_error": ("on_error = ['pass']", 3, "on_error must be one of", "Choose one of these"),
    "no hook": ("pass", 3, "has no hook", "Give it on_request(self, request) or on_response(self, response)"),
    "filter": ("def filter(self, request, response): ...", 3, "has no hook", "Rename filter to on_request(self, request)"),
    "empty name": ('name = ""', 3, "must be a str of 1 to 128 characters", "Give it a name"),
    "long name": ("name = 129 * 'x'", 3, "must be a str of 1 to 128 characters", "Give it a name"),
}


@pytest.mark.parametrize(("body", "line", "reason", "advice"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_a_plugin(load: Load, body: str, line: int, reason: str, advice: str) -> None:
    """A mistake becomes a problem with its line and what to do. The problem is found by the name of the plugin."""
    registry = load(faulty=f"\nclass Faulty(Plugin):\n    {body}\n")
    problem = registry.problems[0]
    assert problem.line == line
    assert problem.file.endswith("faulty.py")
    assert reason in problem.reason
    assert advice in problem.advice
    assert isinstance(registry.get("faulty"), Problem)
    assert registry.types == []


LEGACY_MISTAKES = {
    "Base without filter": (
        "Base",
        "def fliter(self, request, response): ...",
        3,
        "has no filter(self, request, response)",
        "Rename fliter",
    ),
    "Base with nothing": ("Base", "pass", 3, "has no filter(self, request, response)", "Define filter(self, request, response)"),
    "Base with the other signature": (
        "Base",
        "def filter(self, conf, request, response): ...",
        4,
        "takes (self, conf,",
        "Write def filter(self, r",
    ),
    "async Base": ("Base", "async def filter(self, request, response): ...", 4, "filter is async", "Derive from apisix.Plugin"),
    "init": (
        "Base",
        "def __init__(self, x): ...\n    def filter(self, q, p): ...",
        4,
        "__init__ takes (self, x)",
        "Write def __init__(self)",
    ),
    "generator": ("Base", "def filter(self, request, response): yield", 4, "is a generator", "Return"),
    "PluginBase without name": ("PluginBase", "def filter(self, c, q, p): ...", 3, "has no name(self)", "Define name(self)"),
    "PluginBase without filter": ("PluginBase", "def name(self): return 'faulty'", 3, "has no filter(self, conf", "Define filter"),
    "old signature": (
        "PluginBase",
        "def name(self): return 'faulty'\n    def filter(self, q, p): ...",
        5,
        "takes (self, q, p)",
        "filter(self, conf,",
    ),
    "name fails": (
        "PluginBase",
        "def name(self): raise SystemExit(3)\n    def filter(self, c, q, p): ...",
        4,
        "name() raises SystemExit: 3",
        "Make it",
    ),
    "name is None": (
        "PluginBase",
        "def name(self): ...\n    def filter(self, c, q, p): ...",
        4,
        "must be a str of 1 to 128",
        "Give it a name",
    ),
}


@pytest.mark.parametrize("arguments", ["record, result", "request, context", "text", ""])
def test_other_classes_may_have_a_filter(load: Load, arguments: str) -> None:
    """A class without a plugin base class looks like a plugin only if its `filter` has the arguments of a hook."""
    registry = load(helper=f"\nclass Helper:\n    def filter(self, {arguments}): ...\n")

    assert [problem.reason for problem in registry.problems if "looks like a plugin" in problem.reason] == []


def test_a_name_with_a_mistake_is_not_called(load: Load) -> None:
    """Otherwise, Python would warn of a coroutine that was never awaited."""
    registry = load(faulty="\nclass Faulty(PluginBase):\n    async def name(self): ...\n    def filter(self, c, q, p): ...\n")
    gc.collect()

    assert [problem.reason for problem in registry.problems] == ["Faulty.name is async, which PluginBase does not support"]


@pytest.mark.parametrize(("base", "body", "line", "reason", "advice"), LEGACY_MISTAKES.values(), ids=LEGACY_MISTAKES)
def test_mistakes_in_a_legacy_plugin(load: Load, base: str, body: str, line: int, reason: str, advice: str) -> None:
    """Plugins of the legacy APIs are checked in the same way."""
    registry = load(faulty=f"\nclass Faulty({base}):\n    {body}\n")
    problem = registry.problems[0]
    assert (problem.line, reason in problem.reason, advice in problem.advice) == (line, True, True), str(problem)
    assert isinstance(registry.get("faulty"), Problem)


FINE = {
    "own method": "def request(self): ...",
    "other lifecycle words": "def startup(self): ...\n    def shutdown(self): ...\n    def clone(self): ...",
    "private": "def _on_reqest(self): ...",
    "property": "@property\n    def on_fire(self): ...",
    "data": "on_time = 3",
    "more arguments with defaults": "def on_response(self, response, extra=None): ...",
    "any arguments": "def on_response(self, *args): ...",
    "classmethod": "@classmethod\n    def on_response(cls, response): ...",
    "staticmethod": "@staticmethod\n    def on_response(response): ...",
    "callable object": "on_response = print",
    "lifecycle": "async def setup(self): ...\n    async def close(self): ...",
    "attributes": 'needs = ("body", "consumer_name")\n    blocking = False\n    on_error = "pass"',
}


@pytest.mark.parametrize("body", FINE.values(), ids=FINE)
def test_no_mistakes(load: Load, body: str) -> None:
    """The author's own methods, and hooks that accept the arguments of the runner, are not problems."""
    registry = load(fine=f"\nclass Fine(Plugin):\n    def on_request(self, request): ...\n    {body}\n")
    assert registry.problems == []
    assert isinstance(registry.get("fine"), PluginType)


def test_all_mistakes_are_reported_at_once(load: Load) -> None:
    """A class with three mistakes has three problems."""
    registry = load(
        faulty="""
        class Faulty(Plugin):
            needs = "body"
            def on_request(self): ...
            def on_reqest(self, request): ...
        """
    )
    assert len(registry.problems) == 3


def test_attributes_of_a_plugin_type(load: Load) -> None:
    """A plugin type has the attributes of its class."""
    registry = load(
        key_auth='''
        class KeyAuth(Plugin):
            """
            Let a request through.

            More words.
            """
            needs = ("body",)
            blocking = True
            on_error = "pass"
            async def on_response(self, response): ...
            def on_request(self, request): ...
        '''
    )
    found = registry.get("key-auth")
    assert isinstance(found, PluginType)
    assert (found.name, found.api.name, found.hooks) == ("key-auth", "Plugin", ("on_request", "on_response"))
    assert found.doc == "Let a request through."
    assert (found.needs, found.blocking, found.on_error) == (("body",), True, "pass")
    assert (found.source.line, found.source.kind) == (3, "directory")
    assert found.config_schema() == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", False),
        ("eager = True", True),
        ("async def background(self): ...", True),
        ("eager = False\n    async def background(self): ...", False),
        ("eager: bool\n    async def background(self): ...", True),
    ],
)
@pytest.mark.parametrize("is_inherited", [True, False])
def test_a_plugin_with_a_background_task_is_eager(load: Load, body: str, expected: bool, is_inherited: bool) -> None:
    """Unless the class or a base class sets `eager = False`."""
    text = f"class A(Plugin):\n    {body}\n    def on_request(self, request): ..."
    if is_inherited:
        text += "\nclass B(A): ..."

    found = load(a=text).get("b" if is_inherited else "a")

    assert isinstance(found, PluginType)
    assert found.eager is expected


def test_classes_that_are_not_plugins(load: Load) -> None:
    """Private, abstract and imported classes, and base classes without hooks, are neither plugins nor problems."""
    registry = load(
        first="""
        from abc import abstractmethod, ABC
        from typing import Generic, TypeVar
        T = TypeVar("T")
        class Waiting(Plugin[T], Generic[T]):
            def on_request(self, request): ...
        class _Finished(Waiting[int]): ...
        class _Private(Plugin): ...
        class Abstract(Plugin, ABC):
            @abstractmethod
            def verdict(self): ...
            def on_request(self, request): ...
        class Common(Plugin):
            def verdict(self): ...
        class Real(Common):
            def on_request(self, request): ...
        """,
        second="from first import Real\n",
    )
    assert registry.problems == []
    assert [found.name for found in registry.types] == ["real"]


def test_a_mistake_in_a_base_class_has_the_line_of_the_base_class(load: Load) -> None:
    """If an inherited hook has a mistake, the problem has the line of the base class."""
    registry = load(
        both="""
        class _Common(Plugin):
            def on_reqest(self, request): ...
        class Real(_Common):
            def on_response(self, response): ...
        """
    )
    assert [(problem.name, problem.line) for problem in registry.problems] == [("real", 4)]
    assert registry.problems[0].reason == "_Common.on_reqest is not a hook"


def test_decorated_hooks_are_checked(load: Load) -> None:
    """A mistake and its line are found behind a decorator that uses functools.wraps."""
    registry = load(
        wrapped=dedent(
            """
            import functools
            def logged(function):
                @functools.wraps(function)
                def wrapper(*args): return function(*args)
                return wrapper
            class Wrapped(Plugin):
                @logged
                def on_request(self): ...
            """
        )
    )
    assert [problem.line for problem in registry.problems] == [9]


def test_configuration_types_that_cannot_be_read(load: Load) -> None:
    """A type that neither msgspec nor pydantic can read, and a name that is not defined, are problems."""
    registry = load(
        plain="""
        class Conf:
            key: str
        class Plain(Plugin[Conf]):
            def on_request(self, request): ...
        class Unknown(Plugin["Nowhere"]):
            def on_request(self, request): ...
        class Mixed(Plugin[dict | list | set]):
            def on_request(self, request): ...
        """
    )
    reasons = {problem.name: problem.reason for problem in registry.problems}
    assert "Conf is not a dataclass, TypedDict, msgspec.Struct, dict or pydantic model" in reasons["plain"]
    assert "name 'Nowhere' is not defined" in reasons["unknown"]
    assert "Type unions may not contain more than one array-like" in reasons["mixed"]
    assert {problem.line for problem in registry.problems} == {5, 7, 9}


async def _coroutine(extra: int = 0) -> None: ...


class _AsyncCall:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [(_coroutine, True), (partial(_coroutine, 1), True), (_AsyncCall(), True), (print, False), (partial(print), False)],
)
def test_is_coroutine_function(function: object, expected: bool) -> None:
    """Partials of coroutine functions, and objects with an async `__call__`, are coroutine functions too."""
    assert is_coroutine_function(function) == expected
