# SPDX-License-Identifier: Apache-2.0
"""Check a class when it is loaded, so that a mistake in it is told then, and not by a request that goes wrong."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, TypeGuard, get_args

from apisix.runner.legacy.base import Base
from apisix.runner.legacy.plugin_base import PluginBase
from apisix.runner.plugin.configuration import ObjectReader, Reader, TextReader, config_type_of, reader_for
from apisix.runner.plugin.naming import snake_case, words_of
from apisix.runner.plugin.plugin import OnError, Plugin, defines
from apisix.runner.plugin.plugin_type import Generation, PluginType, Problem, Source

HOOKS: dict[str, tuple[str, ...]] = {"on_request": ("self", "request"), "on_response": ("self", "response")}
LIFECYCLE: dict[str, tuple[str, ...]] = {"setup": ("self",), "close": ("self",)}
LEGACY_HOOKS: dict[type, dict[str, tuple[str, ...]]] = {
    Base: {"filter": ("self", "request", "response")},
    PluginBase: {"name": ("self",), "config": ("self", "conf"), "filter": ("self", "conf", "request", "response")},
}
PUBLIC_PATHS: dict[type, str] = {Plugin: "apisix", Base: "apisix.runner.plugin.base", PluginBase: "apisix.runner.plugin.core"}
"""Where plugins import each base from."""
GENERATIONS: dict[type, Generation] = {Plugin: "Plugin", Base: "Base", PluginBase: "PluginBase"}
NAME_LENGTH = 128  # gateway contract, 3
_RUNS_A_LOOP = re.compile(r"\basyncio\.run\(|\basyncio\.Runner\(|\brun_until_complete\(|\bfrom asyncio import .*\b(run|Runner)\b")

# What is wrong: the function or nothing (then the class's line is told), the reason, the advice.
Fault = tuple[Callable[..., object] | None, str, str]


def is_plugin_class(value: object) -> TypeGuard[type]:
    """Tell a class that has to be checked from what else stands in a module: bases, abstract and private classes."""
    if not isinstance(value, type) or not issubclass(value, tuple(GENERATIONS)) or value in GENERATIONS:
        return False
    if value.__name__.startswith("_") or inspect.isabstract(value):
        return False
    # A class that others are derived from is their common part, not a plugin, where it has no hook or waits for its types.
    is_unfinished = getattr(value, "__parameters__", ()) or not _has_hook(value)
    return not (is_unfinished and value.__subclasses__())


def base_by_looks(cls: type) -> type | None:
    """Return the class from which a class with the hooks of a plugin was meant to derive; None if it has none of them."""
    if is_plugin_class(cls) or cls.__name__.startswith("_"):
        return None
    for base, hooks in {Plugin: HOOKS, **LEGACY_HOOKS}.items():
        for hook in {"on_request", "on_response", "filter"} & hooks.keys():
            function = getattr(cls, hook, None)
            if not isinstance(function, FunctionType):
                continue
            names = list(inspect.signature(function).parameters)
            # `filter` is a name that other classes use, too: those of logs and of queries.
            if len(names) == len(hooks[hook]) and (hook != "filter" or (names[-2].startswith("req") and names[-1].startswith("res"))):
                return base
    return None


def check_class(cls: type, source: Source, stem: str | None) -> PluginType | list[Problem]:
    """
    Return what routes may name, or all that is wrong with the class. A class that only looks like a plugin is wrong.

    Args:
        source: where the class is written.
        stem: the file's name without suffix, where routes may mean this class by it: `Base` plugins are reached so.
    """
    root = next((root for root in GENERATIONS if issubclass(cls, root)), None)
    if root is None:
        return _problems(None, [_base_fault(cls)], source)
    return _check_plugin(cls, source) if root is Plugin else _check_legacy(cls, root, source, stem)


def _check_plugin(cls: type[Plugin[Any]], source: Source) -> PluginType | list[Problem]:
    """Check a class of the new generation."""
    name = cls.name if isinstance(cls.name, str) else None
    faults = [
        *_attribute_faults(cls),
        *_init_faults(cls),
        *_hook_faults(cls, HOOKS | LIFECYCLE),
        *_misspelt_faults(cls),
        *_lifecycle_faults(cls),
    ]
    hooks = tuple(hook for hook in HOOKS if defines(cls, hook))
    if not hooks and not faults:
        faults.append((None, f"{cls.__name__} has no hook, so it would never do anything", _advice_without_hook(cls)))
    reader: Reader | None = None
    try:
        reader = reader_for(config_type_of(cls))
    except Exception as error:  # msgspec and pydantic raise many kinds for types that they can't read
        advice = "Make it a dataclass, a TypedDict, a msgspec.Struct, a dict or a pydantic model"
        faults.append((None, f"the configuration's type in {cls.__name__}(Plugin[...]) can't be used: {error}", advice))
    if faults or reader is None or name is None:
        return _problems(name, faults, source)
    needs = tuple(cls.needs)
    return PluginType(name, cls, "Plugin", source, hooks, _first_line(cls), reader, (), needs, cls.blocking, cls.on_error, cls.eager)


def _check_legacy(cls: type[Any], root: type, source: Source, stem: str | None) -> PluginType | list[Problem]:
    """Check a class of the two older generations."""
    hooks = LEGACY_HOOKS[root]
    name = (stem or snake_case(cls.__name__)) if root is Base else None
    faults: list[Fault] = [
        (None, f"{cls.__name__} has no {hook}({', '.join(arguments)})", _advice_for_missing(cls, hook, arguments))
        for hook, arguments in hooks.items()
        if not callable(getattr(cls, hook, None)) or getattr(cls, hook) in (PluginBase.name, PluginBase.filter)
    ]
    faults += [*_init_faults(cls), *_hook_faults(cls, hooks), *_blocking_faults(cls)]
    for hook in hooks:
        function = getattr(cls, hook, None)
        if callable(function) and is_coroutine_function(function):
            faults.append((function, f"{cls.__name__}.{hook} is async, which {root.__name__} does not know", "Derive from apisix.Plugin"))
    if root is PluginBase:
        name = _ask_name(cls, faults)
    if faults or name is None:
        return _problems(name, faults, source)
    if root is PluginBase:
        return PluginType(
            name, cls, "PluginBase", source, ("filter",), _first_line(cls), TextReader(), blocking=_legacy_blocking(cls, source)
        )
    aliases = tuple(dict.fromkeys((cls.__name__, snake_case(cls.__name__))))
    blocking = _legacy_blocking(cls, source)
    return PluginType(name, cls, "Base", source, ("filter",), _first_line(cls), ObjectReader(), aliases, blocking=blocking)


def _base_fault(cls: type) -> Fault:
    """Say how to make a plugin of a class that looks like one."""
    base = base_by_looks(cls) or Plugin
    home = PUBLIC_PATHS[base]
    hook = next(hook for hook in (*HOOKS, "filter") if hasattr(cls, hook))
    advice = (
        f"If it is one, write class {cls.__name__}({base.__name__}), with from {home} import {base.__name__}; if not, begin its name with _"
    )
    return None, f"{cls.__name__} looks like a plugin, for it has {hook}, but derives from no plugin class, so it never runs", advice


def _legacy_blocking(cls: type[Any], source: Source) -> bool | None:
    """
    Return what a class of a legacy API says of `blocking`, True if its file runs an event loop of its own.

    That works only in a thread without a loop, and every call of the earlier releases had one.
    """
    blocking: bool | None = getattr(cls, "blocking", None)
    if blocking is None:
        try:
            text = Path(source.file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return True if _RUNS_A_LOOP.search(text) else None
    return blocking


def _ask_name(cls: type[PluginBase], faults: list[Fault]) -> str | None:
    """Call `name()`, also where there are other faults: routes that use the name get to know them."""
    if any(function is cls.name for function, _, _ in faults) or cls.name is PluginBase.name:
        return None
    try:
        name = cls().name()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an author's code may raise anything, SystemExit too
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        faults.append((cls.name, f"{cls.__name__}().name() raises {text}", "Make it return the name as a str"))
        return None
    wrong = list(_name_faults(cls, name, cls.name))
    faults += wrong
    return None if wrong else name


def _problems(name: str | None, faults: list[Fault], source: Source) -> list[Problem]:
    """Give each fault its file and line."""
    problems = []
    for function, reason, advice in faults:
        code = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
        file, line = (code.co_filename, code.co_firstlineno) if code else (source.file, source.line)
        problems.append(Problem(name, file, line, reason, advice, source.entry_point))
    return problems


def _attribute_faults(cls: type[Plugin[Any]]) -> Iterator[Fault]:
    """Check `name`, `needs`, `blocking`, `eager`, `on_error` and `shared_state`."""
    yield from _name_faults(cls, cls.name, None)
    needs: object = cls.needs
    if not isinstance(needs, tuple) or not all(isinstance(need, str) and need for need in needs):
        example = f'("{needs}",)' if isinstance(needs, str) and needs else '("body", "consumer_name")'
        yield None, f"{cls.__name__}.needs is no tuple of str", f"Write needs = {example}"
    shared: object = cls.shared_state
    if not isinstance(shared, tuple) or not all(isinstance(name, str) and name.isidentifier() for name in shared):
        example = f'("{shared}",)' if isinstance(shared, str) and shared.isidentifier() else '("hits",)'
        yield None, f"{cls.__name__}.shared_state is no tuple of names", f"Write shared_state = {example}"
    if not isinstance(cls.eager, bool):
        yield None, f"{cls.__name__}.eager is neither True nor False", "Write eager = True, or leave it away"
    yield from _blocking_faults(cls)
    if cls.on_error not in (None, *get_args(OnError)):
        allowed = ", ".join(map(repr, get_args(OnError)))
        yield None, f"{cls.__name__}.on_error is none of {allowed}", "Choose one of these, or leave it away"


def _blocking_faults(cls: type[Any]) -> Iterator[Fault]:
    blocking: object = getattr(cls, "blocking", None)
    if not (blocking is None or isinstance(blocking, bool)):
        yield None, f"{cls.__name__}.blocking is neither True, False nor None", "Leave it away, then the runner finds out"


def _name_faults(cls: type, name: object, function: Callable[..., object] | None) -> Iterator[Fault]:
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_LENGTH:
        yield function, f"the name of {cls.__name__} is no str of 1 to {NAME_LENGTH} characters", "Give it a name that a route can hold"


def _init_faults(cls: type[Any]) -> Iterator[Fault]:
    """Check that instances can be made without arguments."""
    if not _takes(cls, "__init__", cls.__init__, ("self",)):
        advice = "Write def __init__(self); self.config is the configuration"
        yield cls.__init__, f"{cls.__name__}.__init__ takes {_signature_text(cls.__init__)}", advice


def _hook_faults(cls: type, hooks: dict[str, tuple[str, ...]]) -> Iterator[Fault]:
    """Check that each hook can be called as it will be, and is no generator."""
    for hook, arguments in hooks.items():
        if not defines(cls, hook):
            continue
        function = getattr(cls, hook)
        if not callable(function):
            yield None, f"{cls.__name__}.{hook} is no function", f"Write def {hook}({', '.join(arguments)})"
        elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            yield function, f"{cls.__name__}.{hook} is a generator, since it has a yield", "Return a Reply or None instead"
        elif not _takes(cls, hook, function, arguments):
            takes = _signature_text(function)
            yield function, f"{cls.__name__}.{hook} takes {takes}", f"Write def {hook}({', '.join(arguments)})"


def _takes(cls: type, hook: str, function: Callable[..., object], arguments: tuple[str, ...]) -> bool:
    """Try to bind the arguments that the runner will give."""
    is_bound = isinstance(inspect.getattr_static(cls, hook), staticmethod | classmethod)
    try:
        inspect.signature(function).bind(*arguments[1:] if is_bound else arguments)
    except TypeError:
        return False
    except ValueError:  # a callable written in C that does not tell
        return True
    return True


def _signature_text(function: Callable[..., object]) -> str:
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def _lifecycle_faults(cls: type[Plugin[Any]]) -> Iterator[Fault]:
    """Check that setup and close, which are awaited, are coroutine functions."""
    for hook in LIFECYCLE:
        function = getattr(cls, hook, None)
        if defines(cls, hook) and callable(function) and not is_coroutine_function(function):
            yield function, f"{cls.__name__}.{hook} is no coroutine function", f"Write async def {hook}(self)"


def _misspelt_faults(cls: type[Plugin[Any]]) -> Iterator[Fault]:
    """Find methods that were meant as a hook: those that begin with `on_`, and those that nearly bear a hook's name."""
    known = [*HOOKS, *LIFECYCLE]
    for owner in cls.__mro__:
        if owner is Plugin or not issubclass(owner, Plugin):
            continue
        for name, value in vars(owner).items():
            function = getattr(value, "__func__", value)  # of a staticmethod or classmethod
            if name in known or name == "on_error" or name.startswith("_") or not isinstance(function, FunctionType):
                continue
            meant = _meant(name, known)
            if meant or name.startswith("on_"):
                arguments = ", ".join((HOOKS | LIFECYCLE).get(meant or "", ()))
                advice = f"If you mean {meant}({arguments}), rename it" if meant else f"The hooks are {', '.join(HOOKS)}"
                yield function, f"{owner.__name__}.{name} is no hook", f"{advice}; a method of your own had better begin with _"


def _meant(name: str, known: list[str]) -> str | None:
    """Guess the hook behind a name: `on_reqest`, `onRequest` and `async_setup` are near, `request` and `startup` are not."""
    spelling = "_".join(word for word in words_of(name) if word != "async")
    close = difflib.get_close_matches(spelling, known, n=1, cutoff=0.85)
    return close[0] if close else None


def _advice_without_hook(cls: type) -> str:
    hidden = [(owner, hook) for owner in cls.__mro__ for hook in HOOKS if not issubclass(owner, Plugin) and hook in vars(owner)]
    if hidden:
        owner, hook = hidden[0]
        return f"Plugin declares {hook} and comes before {owner.__name__}: write class {cls.__name__}({owner.__name__}, Plugin)"
    if hasattr(cls, "filter"):
        return "Name filter on_request(self, request), or derive from the Base or PluginBase that it was written for"
    return "Give it on_request(self, request) or on_response(self, response); if it is only a base for others, begin its name with _"


def _advice_for_missing(cls: type, hook: str, arguments: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(hook, [name for name in vars(cls) if not name.startswith("__")], n=1, cutoff=0.6)
    call = f"{hook}({', '.join(arguments)})"
    return f"Rename {close[0]} to {call}" if close else f"Define {call}"


def is_coroutine_function(function: object) -> bool:
    """Say whether calling it gives a coroutine. Knows partials, and objects whose `__call__` is async."""
    while isinstance(function, functools.partial | functools.partialmethod):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - not a test whether it can be called


def _has_hook(cls: type) -> bool:
    return any(defines(cls, hook) and getattr(cls, hook) is not PluginBase.filter for hook in ("filter", *HOOKS))


def _first_line(cls: type) -> str:
    return (inspect.cleandoc(cls.__doc__).splitlines() or [""])[0] if cls.__doc__ else ""
