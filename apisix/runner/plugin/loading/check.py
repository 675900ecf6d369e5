# SPDX-License-Identifier: Apache-2.0
"""
Check plugin classes when they are loaded, so that a mistake is reported at start and not by a request that fails.

`ClassCheck` has the checks that all plugin APIs share. The checks of `Plugin` are here too. The legacy APIs have their own.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FunctionType
from typing import Any, TypeGuard, get_args

from apisix.runner.plugin.apis import APIS, Hooks, PluginApi, api_of, register
from apisix.runner.plugin.configuration.readers import Reader, config_type_of, reader_for
from apisix.runner.plugin.loading.inline_hooks import may_suspend
from apisix.runner.plugin.naming import words_of
from apisix.runner.plugin.plugin import OnError, Plugin, RunsIn, defines
from apisix.runner.plugin.plugin_type import PluginType, Problem, Source

HOOKS: dict[str, tuple[str, ...]] = {"on_request": ("self", "request"), "on_response": ("self", "response")}
LIFECYCLE: dict[str, tuple[str, ...]] = {"setup": ("self",), "background": ("self",), "close": ("self",)}
NAME_LENGTH = 128  # gateway contract, 3
_RUNS = frozenset({"on_request", "on_response", "filter"})
"""The hooks that a call runs."""


def is_plugin_class(value: object) -> TypeGuard[type]:
    """Return True if a value is a plugin class that is to be checked. Base classes, abstract classes and private classes are not."""
    if not isinstance(value, type) or value in APIS or api_of(value) is None:
        return False
    if value.__name__.startswith("_") or inspect.isabstract(value):
        return False
    # A class from which others derive is not a plugin itself if it has no hook, or type parameters without arguments.
    is_unfinished = getattr(value, "__parameters__", ()) or not _has_hook(value)
    return not (is_unfinished and value.__subclasses__())


def api_by_looks(cls: type) -> PluginApi | None:
    """Return the API to which the hooks of a class belong, or None if it has no hooks. Such a class should probably derive from it."""
    if is_plugin_class(cls) or cls.__name__.startswith("_"):
        return None
    for api in APIS.values():
        for hook in _RUNS & api.hooks.keys():
            function = getattr(cls, hook, None)
            if not isinstance(function, FunctionType):
                continue
            names = list(inspect.signature(function).parameters)
            if len(names) != len(api.hooks[hook]):
                continue
            # Other classes can have a method `filter` too, such as the filters of the module logging.
            if hook != "filter" or (names[-2].startswith("req") and names[-1].startswith("res")):
                return api
    return None


def check_class(cls: type, source: Source, stem: str | None) -> PluginType | list[Problem]:
    """
    Return the plugin of a class, or all its problems. If the class only looks like a plugin, this is its problem.

    Args:
        source: where the class is defined.
        stem: the name of the file without suffix if routes may use it for this class, else None.
    """
    api = api_of(cls)
    if api is not None:
        return api.check(cls, source, stem)
    check = ClassCheck(cls, source)
    _check_look_alike(check)
    return check.problems


class ClassCheck:
    """
    Checks one class and collects its problems.

    Attributes:
        cls: the class.
        source: where it is defined.
        problems: the problems found so far.
    """

    def __init__(self, cls: Any, source: Source) -> None:
        self.cls = cls
        self.source = source
        self.problems: list[Problem] = []

    def add(self, reason: str, advice: str, function: Callable[..., object] | None = None) -> None:
        """Add a problem. It has the line of the function, or of the class if there is none."""
        code = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
        file, line = (code.co_filename, code.co_firstlineno) if code else (self.source.file, self.source.line)
        self.problems.append(Problem(None, file, line, reason, advice, self.source.entry_point))

    def named(self, name: str | None) -> list[Problem]:
        """Return the problems with the name that routes use for the class."""
        return [replace(problem, name=name) for problem in self.problems]

    def check_name(self, name: object, function: Callable[..., object] | None = None) -> bool:
        """Check the name that routes use. Return True if it is valid."""
        is_valid = isinstance(name, str) and 1 <= len(name) <= NAME_LENGTH
        if not is_valid:
            reason = f"the name of {self.cls.__name__} must be a str of 1 to {NAME_LENGTH} characters, not {_shown(name)}"
            self.add(reason, "Give it a name that a route can contain", function)
        return is_valid

    def check_init(self) -> None:
        """Check that instances can be created without arguments."""
        init = self.cls.__init__
        if not self._accepts("__init__", init, ("self",)):
            advice = "Write def __init__(self); self.config is the configuration"
            self.add(f"{self.cls.__name__}.__init__ takes {_signature_text(init)}", advice, init)

    def check_hooks(self, hooks: Hooks) -> None:
        """Check that each hook can be called as the runner will call it, and is not a generator."""
        for hook, arguments in hooks.items():
            if not defines(self.cls, hook):
                continue
            function = getattr(self.cls, hook)
            expected = f"Write def {hook}({', '.join(arguments)})"
            if not callable(function):
                self.add(f"{self.cls.__name__}.{hook} is not a function", expected)
            elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                reason = f"{self.cls.__name__}.{hook} is a generator, because it contains yield"
                self.add(reason, "Return a Reply or None instead", function)
            elif not self._accepts(hook, function, arguments):
                self.add(f"{self.cls.__name__}.{hook} takes {_signature_text(function)}", expected, function)

    def check_blocking(self) -> None:
        """Check the attribute `blocking`."""
        self._check_optional_bool("blocking", "Remove it to let the runner find out")

    def check_inline(self) -> None:
        """Check the attribute `inline`."""
        self._check_optional_bool("inline", "Remove it to let the runner find out")

    def check_names_tuple(self, attribute: str, is_valid: Callable[[str], bool], kind: str, example: str) -> None:
        """Check an attribute that must be a tuple of names."""
        value: object = getattr(self.cls, attribute)
        if isinstance(value, tuple) and all(isinstance(item, str) and is_valid(item) for item in value):
            return
        written = f'("{value}",)' if isinstance(value, str) and is_valid(value) else example
        self.add(f"{self.cls.__name__}.{attribute} must be a tuple of {kind}", f"Write {attribute} = {written}")

    def _check_optional_bool(self, attribute: str, advice: str) -> None:
        value: object = getattr(self.cls, attribute, None)
        if not (value is None or isinstance(value, bool)):
            self.add(f"{self.cls.__name__}.{attribute} must be True, False or None, not {_shown(value)}", advice)

    def _accepts(self, hook: str, function: Callable[..., object], arguments: tuple[str, ...]) -> bool:
        """Return True if a function accepts the arguments that the runner will pass."""
        is_bound = isinstance(inspect.getattr_static(self.cls, hook), staticmethod | classmethod)
        try:
            inspect.signature(function).bind(*arguments[1:] if is_bound else arguments)
        except TypeError:
            return False
        except ValueError:  # a callable written in C without a signature
            return True
        return True


def _check_plugin(cls: type[Plugin[Any]], source: Source, stem: str | None) -> PluginType | list[Problem]:
    """Check a class that derives from `Plugin`."""
    check = ClassCheck(cls, source)
    check.check_name(cls.name)
    _check_attributes(check)
    check.check_init()
    check.check_hooks(HOOKS | LIFECYCLE)
    _check_misspelt_hooks(check)
    _check_lifecycle(check)
    hooks = tuple(hook for hook in HOOKS if defines(cls, hook))
    if not hooks and not check.problems:
        check.add(f"{cls.__name__} has no hook, so it would never do anything", _advice_without_hook(cls))
    reader: Reader | None = None
    try:
        reader = reader_for(config_type_of(cls))
    except Exception as error:  # msgspec and pydantic raise many kinds of errors for types that they can't read
        reason = f"the type of the configuration in {cls.__name__}(Plugin[...]) can't be used: {error}"
        check.add(reason, "Use a dataclass, a TypedDict, a msgspec.Struct, a dict or a pydantic model")
    if check.problems or reader is None:
        return check.named(cls.name if isinstance(cls.name, str) else None)
    needs = tuple(cls.needs)
    eager = _is_eager(cls)
    return PluginType(
        cls.name, cls, PLUGIN, source, hooks, first_line(cls), reader, (), needs, cls.blocking, cls.on_error, eager, cls.runs_in
    )


def _is_eager(cls: type[Plugin[Any]]) -> bool:
    """Return `eager` if the class or a base sets it. Otherwise, a plugin with a background task is eager, so that the task starts early."""
    is_set = any("eager" in vars(base) for base in cls.__mro__ if base is not Plugin)
    return cls.eager if is_set else defines(cls, "background")


def _check_attributes(check: ClassCheck) -> None:
    """Check `needs`, `shared_state`, `eager`, `inline`, `blocking`, `runs_in` and `on_error`."""
    cls = check.cls
    check.check_names_tuple("needs", bool, "str", '("body", "consumer_name")')
    check.check_names_tuple("shared_state", str.isidentifier, "names of attributes", '("hits",)')
    if not isinstance(cls.eager, bool):
        check.add(f"{cls.__name__}.eager must be True or False, not {_shown(cls.eager)}", "Write eager = True, or remove it")
    check.check_inline()
    check.check_blocking()
    if cls.runs_in not in (None, *get_args(RunsIn)):
        reason = f"{cls.__name__}.runs_in must be 'process' or None, not {_shown(cls.runs_in)}"
        check.add(reason, 'Write runs_in = "process", or remove it')
    elif cls.runs_in is not None and (cls.inline or cls.blocking):
        other = "inline" if cls.inline else "blocking"
        reason = f"{cls.__name__} has runs_in = {cls.runs_in!r} and {other} = True, which contradict each other"
        check.add(reason, f"Remove {other}, because a hook in another process runs neither inline nor in a thread of the worker")
    if cls.on_error not in (None, *get_args(OnError)):
        allowed = ", ".join(map(repr, get_args(OnError)))
        check.add(f"{cls.__name__}.on_error must be one of {allowed}, not {_shown(cls.on_error)}", "Choose one of these, or remove it")


def _check_lifecycle(check: ClassCheck) -> None:
    """Check that `setup`, `background` and `close`, which are awaited, are coroutine functions, and that `once` and `background` fit."""
    for hook in LIFECYCLE:
        function = getattr(check.cls, hook, None)
        if defines(check.cls, hook) and callable(function) and not is_coroutine_function(function):
            check.add(f"{check.cls.__name__}.{hook} is not a coroutine function", f"Write async def {hook}(self)", function)
    cls = check.cls
    has_background = defines(cls, "background")
    if not isinstance(cls.once, bool):
        check.add(f"{cls.__name__}.once must be True or False, not {_shown(cls.once)}", "Write once = True, or remove it")
    elif cls.once and not has_background:
        check.add(f"{cls.__name__} has once = True, but no background", "Write async def background(self), or remove once")
    if cls.runs_in is not None and has_background:
        reason = (
            f"{cls.__name__} has runs_in = {cls.runs_in!r} and a background, which would need an event loop in each process of the pool"
        )
        check.add(reason, "Move background into another plugin, and pass data through self.store", cls.background)


def _check_misspelt_hooks(check: ClassCheck) -> None:
    """Find methods that were probably meant as a hook: their name begins with `on_`, or is similar to the name of a hook."""
    known = [*HOOKS, *LIFECYCLE]
    for owner, name, function in _methods(check.cls):
        if name in known or name == "on_error" or name.startswith("_"):
            continue
        meant = _meant(name, known)
        if meant or name.startswith("on_"):
            arguments = ", ".join((HOOKS | LIFECYCLE).get(meant or "", ()))
            advice = f"If you mean {meant}({arguments}), rename it" if meant else f"The hooks are {', '.join(HOOKS)}"
            check.add(f"{owner.__name__}.{name} is not a hook", f"{advice}; begin the name of other methods with _", function)


def _methods(cls: type) -> Iterator[tuple[type, str, FunctionType]]:
    """Yield the functions that a class and its bases below `Plugin` define, with the class and the name."""
    for owner in cls.__mro__:
        if owner is not Plugin and issubclass(owner, Plugin):
            for name, value in vars(owner).items():
                function = getattr(value, "__func__", value)  # of a staticmethod or classmethod
                if isinstance(function, FunctionType):
                    yield owner, name, function


def _meant(name: str, known: list[str]) -> str | None:
    """Return the hook with a similar name, or None. `on_reqest` and `async_setup` are similar, but not `request` and `startup`."""
    spelling = "_".join(word for word in words_of(name) if word != "async")
    close = difflib.get_close_matches(spelling, known, n=1, cutoff=0.85)
    return close[0] if close else None


def _advice_without_hook(cls: type) -> str:
    hidden = [(owner, hook) for owner in cls.__mro__ for hook in HOOKS if not issubclass(owner, Plugin) and hook in vars(owner)]
    if hidden:
        owner, hook = hidden[0]
        return f"Plugin declares {hook} and comes before {owner.__name__}: write class {cls.__name__}({owner.__name__}, Plugin)"
    if hasattr(cls, "filter"):
        return "Rename filter to on_request(self, request), or derive from Base or PluginBase, for which it was written"
    return "Give it on_request(self, request) or on_response(self, response); if it is only a base for others, begin its name with _"


def _check_look_alike(check: ClassCheck) -> None:
    """Add the problem of a class that has the hooks of a plugin, but does not derive from a plugin class."""
    cls = check.cls
    api = api_by_looks(cls) or PLUGIN
    hook = next(hook for hook in (*HOOKS, "filter") if hasattr(cls, hook))
    base = f"class {cls.__name__}({api.name}), with from {api.import_path} import {api.name}"
    check.add(
        f"{cls.__name__} looks like a plugin, because it has {hook}, but it does not derive from a plugin class, so it never runs",
        f"If it is a plugin, write {base}; if not, begin its name with _",
    )


def is_coroutine_function(function: object) -> bool:
    """Return True if calling the object returns a coroutine. This includes partials, and objects whose `__call__` is async."""
    while isinstance(function, functools.partial | functools.partialmethod):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - not a test whether it can be called


def first_line(cls: type) -> str:
    """Return the first line of a class's docstring, or ""."""
    return (inspect.cleandoc(cls.__doc__).splitlines() or [""])[0] if cls.__doc__ else ""


def _has_hook(cls: type) -> bool:
    """Return True if a class defines a hook that a call runs, or inherits one from a class that is not a base class of an API."""
    return any(
        not any(function is getattr(base, hook, None) for base in APIS)
        for hook in _RUNS
        if (function := getattr(cls, hook, None)) is not None
    )


def _signature_text(function: Callable[..., object]) -> str:
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def _shown(value: object) -> str:
    """Return a short representation of a class attribute for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _may_suspend(cls: type[Plugin[Any]], hook: Callable[..., object]) -> str | None:
    """Return why a hook of a plugin may suspend a call, or None if it runs inline."""
    if cls.inline is not None:
        return None if cls.inline else "inline is False"
    return may_suspend(hook)


PLUGIN = PluginApi(Plugin, "apisix", HOOKS, _check_plugin, _may_suspend)
register(PLUGIN)
