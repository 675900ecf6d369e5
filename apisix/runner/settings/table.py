# SPDX-License-Identifier: Apache-2.0
"""
The settings of the runner, in one table.

The fields of `Settings` are the table: name, type and default stand there as in any class, and what a field is called
in the file, in the environment and on the command line, and what it does, stands beside it. The documentation and
`apisix/config.yaml` are generated from it.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from apisix.runner.errors import SettingsError
from apisix.runner.settings.kinds import (
    ADDRESS,
    CHOICE,
    COUNT,
    COUNT_OR_AUTO,
    DIRECTORIES,
    DURATION,
    LEVEL,
    MODE,
    NAMES,
    PATH,
    SIZE,
    SOCKET,
    SWITCH,
    TEXT,
    Given,
    Kind,
)
from apisix.runner.settings.plain_yaml import read_plain

# Each number has an upper bound far above what is of use, so that a mistyped one is refused and none overflows.
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Workers = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 44)]
SizeAboveZero = Annotated[int, msgspec.Meta(ge=1, le=1 << 44)]
BufferedSize = Annotated[int, msgspec.Meta(ge=1 << 26, le=1 << 44)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
SecondsOrZero = Annotated[float, msgspec.Meta(ge=0, le=31_536_000)]
Mode = Annotated[int, msgspec.Meta(le=0o777)]
OnError = Literal["refuse", "pass", "degrade"]

PREFIX = "APISIX_RUNNER_"
NO_SETTINGS = frozenset({"APISIX_RUNNER_CONFIG", "APISIX_RUNNER_PURE", "APISIX_RUNNER_ACCELERATE"})
"""Variables of our prefix that are read elsewhere."""
# Kubernetes sets these in each container if there is a service named apisix-runner.
# Source: its documentation of services, "environment variables".
_OF_KUBERNETES = re.compile(
    r"APISIX_RUNNER_(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class Key(msgspec.Struct, frozen=True, eq=False):
    """
    What a field of `Settings` is called outside, and what it does.

    Attributes:
        key: in the file, as `section.name`. `APISIX_RUNNER_SECTION_NAME` is its environment variable.
        kind: how its text is read.
        help: what it does: a sentence for the documentation.
        flag: on the command line, "" where there is none.
        metavar: what stands behind the flag in the help, "" for a switch.
        environment: the variable by which the gateway itself gives it, "" where it does not.
        unset: what the documentation says of a default that is None or an empty list.
    """

    key: str
    kind: Kind
    help: str
    flag: str = ""
    metavar: str = ""
    environment: str = ""
    unset: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one run, typed and checked. `notes` is what `load` wants the log to say, once there is one."""

    socket_file: Annotated[
        str,
        Key(
            "socket.file",
            SOCKET,
            "The socket on which the gateway finds the runner.",
            flag="--socket",
            metavar="PATH",
            environment="APISIX_LISTEN_ADDRESS",
        ),
    ] = "/tmp/runner.sock"  # noqa: S108  # where release 0.2 listened, and what its documentation tells gateways to use
    socket_mode: Annotated[
        Mode | None,
        Key(
            "socket.mode",
            MODE,
            "The mode of the socket.",
            unset="0600, for the runner's own user; more only where the gateway's workers need it",
        ),
    ] = None
    socket_owner: Annotated[
        str | None, Key("socket.owner", TEXT, "The user, by name or number, that the socket is given to.", unset="left as it is")
    ] = None
    socket_group: Annotated[
        str | None, Key("socket.group", TEXT, "The group, by name or number, that the socket is given to.", unset="left as it is")
    ] = None
    allow_users: Annotated[
        tuple[str, ...],
        Key("socket.allow_users", NAMES, "Users, by name or number, that may connect besides the runner's own and root.", unset="none"),
    ] = ()

    log_level: Annotated[
        Literal["error", "warn", "info", "debug"],
        Key("logging.level", LEVEL, "What is logged: lines of this level and those before it.", flag="--log-level", metavar="LEVEL"),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "text", "json"], Key("logging.format", CHOICE, "How lines look. auto is text on a terminal and json elsewhere.")
    ] = "auto"
    log_file: Annotated[
        str | None,
        Key("logging.file", PATH, "Where lines go. A file that was moved away, as logrotate does, is made anew.", unset="standard error"),
    ] = None
    log_repeats: Annotated[
        Count,
        Key(
            "logging.repeats",
            COUNT,
            "How often a minute the same warning or error is written; more are counted, and the count is written. 0 is no limit.",
        ),
    ] = 10
    log_effects: Annotated[
        bool,
        Key(
            "logging.effects",
            SWITCH,
            "Log what each plugin did to each call, as the development gateway shows it. Costs time; no values of headers are logged.",
        ),
    ] = False

    plugins: Annotated[
        tuple[str, ...],
        Key(
            "plugins.directories",
            DIRECTORIES,
            "Directories whose files are loaded as plugins.",
            flag="--plugins",
            metavar="DIR",
            unset="none",
        ),
    ] = ()
    plugin_modules: Annotated[
        tuple[str, ...], Key("plugins.modules", NAMES, "Modules on Python's path that hold plugins, as package.module.", unset="none")
    ] = ()
    on_error: Annotated[
        OnError,
        Key(
            "plugins.on_error",
            CHOICE,
            "What a failing plugin means for its request, where its class does not say it: refuse it, let it pass without "
            "the plugin's edits, or degrade, which in the response phase leaves it to the gateway.",
        ),
    ] = "refuse"
    pre_req_first: Annotated[
        bool,
        Key(
            "plugins.pre_req_first",
            SWITCH,
            "Skip the info request in ext-plugin-pre-req that finds out whether something has rewritten the path before. "
            "Set it only if nothing does: no global rule has proxy-rewrite or an ext-plugin, "
            "and _meta.priority moves no plugin before ext-plugin-pre-req.",
        ),
    ] = False

    workers: Annotated[
        Workers | Literal["auto"],
        Key(
            "workers.count",
            COUNT_OR_AUTO,
            "How many processes run plugins. auto is one a core. More than the machine's cores, memory or `ulimit -u` allow are refused.",
            flag="--workers",
            metavar="N",
        ),
    ] = 1
    reload: Annotated[
        bool, Key("workers.reload", SWITCH, "Replace the workers when a plugin's file changes, without losing a call.", flag="--reload")
    ] = False
    max_requests: Annotated[
        Count, Key("workers.max_requests", COUNT, "How many calls a worker answers before it is replaced. 0 is no limit.")
    ] = 0
    memory_limit_bytes: Annotated[
        Size, Key("workers.memory_limit", SIZE, "How much memory a worker may use before it is replaced. 0 is no limit.")
    ] = 0
    worker_timeout_s: Annotated[
        Seconds,
        Key("workers.timeout", DURATION, "A worker that has been stuck for this long is killed, with its stack in the log, and replaced."),
    ] = 60.0
    shutdown_timeout_s: Annotated[
        Seconds | None,
        Key(
            "workers.shutdown_timeout",
            DURATION,
            "How long calls may go on when the runner is told to stop.",
            unset="0.9 when the gateway started the runner, else 30",
        ),
    ] = None
    stop_accepting_after_s: Annotated[
        SecondsOrZero,
        Key(
            "workers.stop_accepting_after",
            DURATION,
            "How long after SIGTERM the runner goes on accepting connections while calls keep coming and no other runner has taken its "
            "socket. It is part of the time that workers.shutdown_timeout gives.",
        ),
    ] = 10.0

    plugin_timeout_s: Annotated[
        Seconds,
        Key("limits.plugin_timeout", DURATION, "How long the plugins of one call may take together. The gateway gives up after 60."),
    ] = 50.0
    info_timeout_s: Annotated[
        Seconds,
        Key(
            "limits.info_timeout",
            DURATION,
            "How long the gateway may take to answer what a plugin asks, such as for the body of a slow upload. This time does not count "
            "for plugin_timeout.",
        ),
    ] = 120.0
    max_in_flight: Annotated[
        AtLeastOne,
        Key(
            "limits.max_in_flight",
            COUNT,
            "How many calls of a worker may wait at once, for an answer, a coroutine or a thread; more are refused.",
        ),
    ] = 1000
    blocking_threads: Annotated[Threads, Key("limits.blocking_threads", COUNT, "Threads of a worker for each plugin that blocks.")] = 32
    max_connections: Annotated[
        AtLeastOne, Key("limits.max_connections", COUNT, "How many connections the runner holds; more are closed.")
    ] = 10_000
    buffered_bytes: Annotated[
        BufferedSize,
        Key(
            "limits.buffered_size",
            SIZE,
            "How much the connections of a worker may hold together for frames that are half read and replies that the gateway has not "
            "read. If it is more, the connection that has held some for longest is closed.",
        ),
    ] = 256 * 2**20
    read_timeout_s: Annotated[
        Seconds, Key("limits.read_timeout", DURATION, "How long a frame may take to arrive before its connection is closed.")
    ] = 60.0
    send_timeout_s: Annotated[
        Seconds, Key("limits.send_timeout", DURATION, "How long the gateway may take to read a reply before its connection is closed.")
    ] = 60.0
    max_decompressed_bytes: Annotated[
        SizeAboveZero,
        Key("limits.max_decompressed_size", SIZE, "How large a response's body may become when a plugin reads it decompressed."),
    ] = 64 * 2**20
    chain_cache_entries: Annotated[
        AtLeastOne,
        Key("limits.cached_chains", COUNT, "How many configurations a worker keeps ready; the least used are built again when needed."),
    ] = 10_000

    conf_expire_s: Annotated[
        Seconds,
        Key(
            "conf_store.expire_time",
            DURATION,
            "How long the gateway uses a configuration's token; the runner keeps it for longer than that.",
            environment="APISIX_CONF_EXPIRE_TIME",
        ),
    ] = 3600.0
    conf_store_file: Annotated[
        str | None, Key("conf_store.file", PATH, "Where configurations are kept over a restart.", unset="beside the socket")
    ] = None
    conf_store_max_entries: Annotated[AtLeastOne, Key("conf_store.max_entries", COUNT, "How many configurations are kept.")] = 100_000

    metrics_address: Annotated[
        str | None,
        Key(
            "metrics.address",
            ADDRESS,
            "Where Prometheus finds the metrics, under /metrics, and a probe the health, under /health. Needs the extra metrics.",
            unset="none are kept",
        ),
    ] = None
    metrics_allow_remote: Annotated[
        bool,
        Key(
            "metrics.allow_remote",
            SWITCH,
            "Let metrics.address be one that other machines can reach. Whoever can reads the names of plugins, and how much they do.",
        ),
    ] = False

    notes: tuple[str, ...] = ()


class Setting(msgspec.Struct, frozen=True, eq=False):
    """One row of the table. `name` is the field of `Settings`, `environment` the variable by which the gateway itself gives it."""

    name: str
    type: Any
    default: Any
    key: str
    kind: Kind
    help: str
    flag: str
    metavar: str
    environment: str
    unset: str

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the environment that give it, the first one rules."""
        own = f"{PREFIX}{self.key.replace('.', '_').upper()}"
        return (own, self.environment) if self.environment else (own,)

    @property
    def allowed(self) -> str:
        """Say what may be written, to stand behind "must be"."""
        return self.kind.allowed.format(_constraint(self.type))


def _rows() -> tuple[Setting, ...]:
    rows = []
    for field in msgspec.structs.fields(Settings):
        if get_origin(field.type) is not Annotated:
            continue
        key: Key = get_args(field.type)[-1]
        rows.append(
            Setting(field.name, field.type, field.default, key.key, key.kind, key.help, key.flag, key.metavar, key.environment, key.unset)
        )
    return tuple(rows)


def _constraint(annotation: Any) -> str:
    """Return the words or the bounds that a type allows, "" where there are none."""
    if isinstance(annotation, msgspec.Meta):
        if annotation.le is None or annotation.le == 0o777:  # a mode has no bounds to name
            return ""
        return (
            f" above {annotation.gt:g} and up to {annotation.le}"
            if annotation.gt is not None
            else f" from {annotation.ge} to {annotation.le}"
        )
    if get_origin(annotation) is Literal and get_args(annotation) != ("auto",):
        *words, last = get_args(annotation)
        return f"{', '.join(words)} or {last}"
    return next(filter(None, map(_constraint, get_args(annotation))), "")


SETTINGS: tuple[Setting, ...] = _rows()


def load(config_file: Path | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """
    Gather the settings. A flag rules over the environment, that over the file, and the file over the default.

    Args:
        config_file: the file to read, None for none.
        flags: what the command line gave, by the name of the field; None, False and () are as good as absent.
        environ: the environment. An empty variable is as good as absent.
    Raises: SettingsError: a key is unknown or a value is not allowed, wherever it stands.
    """
    in_file = {} if config_file is None else _read_file(config_file)
    values: dict[str, Any] = {}
    notes: list[str] = []
    for row in SETTINGS:
        given = _flag(row, flags.get(row.name)) or _variable(row, environ)
        from_file = in_file.get(row.key)
        if from_file is not None:
            resolved = _resolve(from_file, environ)
            if resolved is not None:
                values[row.name] = _value(row, resolved)
            elif given is None:
                notes.append(f"{from_file.where}: {row.key} names {from_file.text}, which is not set; it is {_shown(row.default)} instead")
        if given is not None:
            overruled = values.get(row.name)
            value = values[row.name] = _value(row, given)
            # Who wrote the file need not know that the gateway sets a variable, and would look for the cause in vain.
            if from_file is not None and overruled not in (None, value) and given.where == _where(row.environment):
                notes.append(f"{row.key} is {_shown(value)}, from {given.where}, and not {_shown(overruled)}, from {from_file.where}")
    notes += _unknown_variables(environ)
    return Settings(**values, notes=tuple(notes))


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """
    Say which variables of our prefix are no settings, and what was probably meant.

    They are not refused: an orchestrator may set variables of that prefix that nobody has asked for.
    """
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in NO_SETTINGS)
    if not unknown:
        return
    known = [row.variables[0] for row in SETTINGS]
    words = [variable.removeprefix(PREFIX) for variable in (*known, *sorted(NO_SETTINGS))]
    for name in unknown:
        if name not in known and not _OF_KUBERNETES.fullmatch(name):
            from difflib import get_close_matches  # late: few need it

            near = get_close_matches(name.removeprefix(PREFIX), words, n=1, cutoff=0.6)
            advice = f"did you mean {PREFIX}{near[0]}?" if near else "docs/reference/settings.md lists the variables that do"
            yield f"environment variable {name} has no effect: there is no setting of that name; {advice}"


def default_config_file() -> Path:
    """
    Return the file that is read where none is named.

    That is `conf/config.yaml` of the checkout, where an operator of release 0.2 put it, and else `apisix/config.yaml`.
    """
    package = Path(__file__).resolve().parent.parent.parent
    of_release_02 = package.parent / "conf" / "config.yaml"
    # Beside an installed package, `conf` would be somebody else's.
    is_checkout = (package.parent / "bin" / "py-runner").exists()
    return of_release_02 if is_checkout and of_release_02.exists() else package / "config.yaml"


def _read_file(path: Path) -> dict[str, Given]:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SettingsError(f"the configuration file {path} is a pipe or a device: it is read at each reload again, so it has to be a file")
    keys = [row.key for row in SETTINGS]
    plain = read_plain(path, keys)
    if plain is not None:
        return plain
    from apisix.runner.settings.file import read_file  # late: it brings PyYAML, which only few files need

    return read_file(path, keys)


def _flag(row: Setting, value: object) -> Given | None:
    if value is None or value is False or value == ():
        return None
    base = str(Path.cwd())
    if isinstance(value, (tuple, list)):
        return Given(tuple(str(item) for item in value), row.flag, base)
    text = str(value)
    if row.kind is SOCKET:  # who types a path on the command line means it from where he stands
        text = str(Path(base, text.removeprefix("unix:")))
    return Given(text, row.flag, base)


def _variable(row: Setting, environ: Mapping[str, str]) -> Given | None:
    for name in row.variables:
        if text := environ.get(name):
            return Given(text, _where(name), str(Path.cwd()))
    return None


def _where(variable: str) -> str:
    return f"environment variable {variable}"


def _resolve(given: Given, environ: Mapping[str, str]) -> Given | None:
    """Look up `$env.NAME`. Returns: None where that variable is not set, or empty."""
    if isinstance(given.text, str) and given.text.startswith("$env."):
        name = given.text.removeprefix("$env.")
        text = environ.get(name)
        return Given(text, f"{given.where}, environment variable {name}", given.base) if text else None
    return given


def _value(row: Setting, given: Given) -> Any:
    kind = row.kind
    try:
        raw: object
        if kind.separator is not None:
            texts = given.text if isinstance(given.text, tuple) else tuple(filter(None, map(str.strip, given.text.split(kind.separator))))
            raw = tuple(kind.read(text, given.base) for text in texts)
        elif isinstance(given.text, tuple):
            raise ValueError
        else:
            raw = kind.read(given.text, given.base)
        return msgspec.convert(raw, row.type, strict=False)
    except ValueError:  # msgspec's ValidationError is one too
        shown = _shown(given.text)
        raise SettingsError(f"{given.where}: {row.key} is {shown}, but must be {row.allowed}") from None


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return repr(value) if isinstance(value, str) else str(value)
