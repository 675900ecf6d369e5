# SPDX-License-Identifier: Apache-2.0
"""
The settings of the runner, in one table.

Each field of `Settings` is one row. Its name, type and default are written as in any class. Its `Key` has its description, and its names
in the file, in the environment and on the command line. The documentation and `apisix/config.yaml` are generated from this table.
"""

from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from apisix.runner.settings.kinds import (
    ADDRESS,
    CHOICE,
    COUNT,
    COUNT_OR_AUTO,
    DIRECTORIES,
    DURATION,
    FRACTION,
    LEVEL,
    MODE,
    NAMES,
    PATH,
    SECRET,
    SIZE,
    SOCKET,
    SWITCH,
    TEXT,
    WORD,
    Kind,
)

# Each number has an upper bound far above useful values, so that a mistyped number is refused and none overflows.
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Workers = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Connections = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 44)]
SizeAboveZero = Annotated[int, msgspec.Meta(ge=1, le=1 << 44)]
BufferedSize = Annotated[int, msgspec.Meta(ge=1 << 26, le=1 << 44)]
StoreSize = Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 40)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
FractionAboveZero = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
SecondsOrZero = Annotated[float, msgspec.Meta(ge=0, le=31_536_000)]
Mode = Annotated[int, msgspec.Meta(le=0o777)]
OnError = Literal["refuse", "pass", "degrade"]

PREFIX = "APISIX_RUNNER_"
"""The prefix of the environment variables of settings."""


class Key(msgspec.Struct, frozen=True, eq=False):
    """
    The names and the description of a field of `Settings`.

    Attributes:
        key: its name in the file, as `section.name`. Its environment variable is `APISIX_RUNNER_SECTION_NAME`.
        kind: its kind, which converts its text to its value.
        help: its description for the documentation, as sentences.
        flag: its flag on the command line, or "".
        metavar: the placeholder after the flag in the help text, or "" for a switch.
        environment: the variable in which the gateway itself passes the value, or "".
        unset: the description of the default in the documentation, if the default is None or an empty list.
    """

    key: str
    kind: Kind
    help: str
    flag: str = ""
    metavar: str = ""
    environment: str = ""
    unset: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a runner, with checked values. `notes` are warnings of `load`, which are logged when logging is set up."""

    socket_file: Annotated[
        str,
        Key(
            "socket.file",
            SOCKET,
            "The path of the socket on which the runner listens.",
            flag="--socket",
            metavar="PATH",
            environment="APISIX_LISTEN_ADDRESS",
        ),
    ] = "/tmp/runner.sock"  # noqa: S108  # where release 0.2 listened, and what its documentation configures in gateways
    socket_mode: Annotated[
        Mode | None,
        Key(
            "socket.mode",
            MODE,
            "The mode of the socket.",
            unset="0600; 0660 if socket.group is set; 0666 if socket.allow_users is set and the runner is not root",
        ),
    ] = None
    socket_owner: Annotated[
        str | None, Key("socket.owner", TEXT, "The owner of the socket, a user name or number.", unset="not changed")
    ] = None
    socket_group: Annotated[str | None, Key("socket.group", TEXT, "The group of the socket, a name or number.", unset="not changed")] = None
    allow_users: Annotated[
        tuple[str, ...],
        Key(
            "socket.allow_users",
            NAMES,
            "Users who may connect, by name or number. The user of the runner and root may always connect.",
            unset="none",
        ),
    ] = ()

    log_level: Annotated[
        Literal["error", "warn", "info", "debug"],
        Key("logging.level", LEVEL, "The least severe level that is logged.", flag="--log-level", metavar="LEVEL"),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "text", "json"],
        Key("logging.format", CHOICE, "The format of log records. auto is text on a terminal and json elsewhere."),
    ] = "auto"
    log_file: Annotated[
        str | None,
        Key(
            "logging.file",
            PATH,
            "The file to which records are written. If the file is moved, as logrotate does, it is created again.",
            unset="standard error",
        ),
    ] = None
    log_repeats: Annotated[
        Count,
        Key(
            "logging.repeats",
            COUNT,
            "How many times per minute the same warning or error is written. Further ones are counted, and the count is written. "
            "0 means no limit.",
        ),
    ] = 10
    log_effects: Annotated[
        bool,
        Key(
            "logging.effects",
            SWITCH,
            "Log the record of each call, as the development gateway shows it: the request, what each plugin did, and the reply. "
            "Values of headers and fields that may be secrets are replaced by digests. This makes calls slower.",
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
        tuple[str, ...], Key("plugins.modules", NAMES, "Importable modules that contain plugins, as package.module.", unset="none")
    ] = ()
    on_error: Annotated[
        OnError,
        Key(
            "plugins.on_error",
            CHOICE,
            "What happens if a plugin fails and its class does not set on_error. refuse: the call is refused. pass: the call "
            "continues without the edits of the plugin. degrade: the same as refuse, but in the response phase the gateway "
            "decides, and sends the upstream's body.",
        ),
    ] = "refuse"
    pre_req_first: Annotated[
        bool,
        Key(
            "plugins.pre_req_first",
            SWITCH,
            "Omit the info request in ext-plugin-pre-req that finds out whether something has rewritten the path. Set this only "
            "if nothing does: no global rule has proxy-rewrite or an ext-plugin, and _meta.priority moves no plugin before "
            "ext-plugin-pre-req.",
        ),
    ] = False

    workers: Annotated[
        Workers | Literal["auto"],
        Key(
            "workers.count",
            COUNT_OR_AUTO,
            "The number of worker processes. auto means one for each CPU core. A number is refused if the cores, the memory or "
            "`ulimit -u` of the machine do not allow it.",
            flag="--workers",
            metavar="N",
        ),
    ] = 1
    reload: Annotated[
        bool, Key("workers.reload", SWITCH, "Replace the workers without losing a call if a plugin file changes.", flag="--reload")
    ] = False
    max_requests: Annotated[
        Count, Key("workers.max_requests", COUNT, "The number of calls after which a worker is replaced. 0 means no limit.")
    ] = 0
    memory_limit_bytes: Annotated[
        Size, Key("workers.memory_limit", SIZE, "The amount of memory at which a worker is replaced. 0 means no limit.")
    ] = 0
    worker_timeout_s: Annotated[
        Seconds,
        Key(
            "workers.timeout",
            DURATION,
            "If the event loop of a worker does not run for this time, the worker is killed and replaced. Its stacks are logged.",
        ),
    ] = 60.0
    shutdown_timeout_s: Annotated[
        Seconds | None,
        Key(
            "workers.shutdown_timeout",
            DURATION,
            "The time in which the runner exits after SIGTERM or SIGINT. Calls in progress can finish in this time.",
            unset="0.9 seconds if the gateway starts the runner, otherwise 30 seconds",
        ),
    ] = None
    stop_accepting_after_s: Annotated[
        SecondsOrZero,
        Key(
            "workers.stop_accepting_after",
            DURATION,
            "The time for which the runner accepts connections after SIGTERM, as long as calls arrive and no other runner has taken "
            "over its socket. This time is part of workers.shutdown_timeout.",
        ),
    ] = 10.0

    plugin_timeout_s: Annotated[
        Seconds,
        Key("limits.plugin_timeout", DURATION, "The time limit for all plugins of a call together. The gateway waits for 60 seconds."),
    ] = 50.0
    info_timeout_s: Annotated[
        Seconds,
        Key(
            "limits.info_timeout",
            DURATION,
            "The time limit for an info reply, for example for the body of a slow upload. This time does not count towards "
            "limits.plugin_timeout.",
        ),
    ] = 120.0
    max_in_flight: Annotated[
        AtLeastOne,
        Key(
            "limits.max_in_flight",
            COUNT,
            "How many calls of a worker can wait at the same time for an info reply, a coroutine or a thread. Further calls are refused.",
        ),
    ] = 1000
    blocking_threads: Annotated[
        Threads, Key("limits.blocking_threads", COUNT, "The number of threads in a worker for each blocking plugin.")
    ] = 32
    processes: Annotated[
        Threads | None,
        Key(
            "limits.processes",
            COUNT,
            'The number of processes that each worker may start for plugins with runs_in = "process". They are started when they are '
            "needed.",
            unset="the number of CPU cores divided by the number of workers, rounded up",
        ),
    ] = None
    max_connections: Annotated[
        AtLeastOne, Key("limits.max_connections", COUNT, "The number of connections. Further connections are closed.")
    ] = 10_000
    buffered_bytes: Annotated[
        BufferedSize,
        Key(
            "limits.buffered_size",
            SIZE,
            "The size limit for incomplete frames and unsent replies of all connections of a worker together. If it is exceeded, the "
            "connection that has had such bytes for the longest time is closed.",
        ),
    ] = 256 * 2**20
    read_timeout_s: Annotated[
        Seconds, Key("limits.read_timeout", DURATION, "The time limit for a frame to arrive. If it is exceeded, the connection is closed.")
    ] = 60.0
    send_timeout_s: Annotated[
        Seconds,
        Key(
            "limits.send_timeout", DURATION, "The time limit for the gateway to read a reply. If it is exceeded, the connection is closed."
        ),
    ] = 60.0
    max_decompressed_bytes: Annotated[
        SizeAboveZero,
        Key("limits.max_decompressed_size", SIZE, "The size limit for a decompressed body."),
    ] = 64 * 2**20
    chain_cache_entries: Annotated[
        AtLeastOne,
        Key(
            "limits.cached_chains",
            COUNT,
            "How many chains a worker keeps. The least recently used ones are removed, and are built again if they are needed.",
        ),
    ] = 10_000

    conf_expire_s: Annotated[
        Seconds,
        Key(
            "conf_store.expire_time",
            DURATION,
            "How long the gateway uses a token. The runner keeps the route configuration for longer than that.",
            environment="APISIX_CONF_EXPIRE_TIME",
        ),
    ] = 3600.0
    conf_store_file: Annotated[
        str | None,
        Key(
            "conf_store.file",
            PATH,
            "The file in which route configurations are kept over a restart.",
            unset="in a directory next to the socket",
        ),
    ] = None
    conf_store_max_entries: Annotated[AtLeastOne, Key("conf_store.max_entries", COUNT, "How many route configurations are kept.")] = 100_000

    state_directory: Annotated[
        str | None,
        Key(
            "state.directory",
            PATH,
            "The directory in which the shared store of plugins is, in a directory of its own. It should be in memory.",
            unset="/dev/shm, otherwise $XDG_RUNTIME_DIR or the directory for temporary files",  # noqa: S108  # a text
        ),
    ] = None
    state_size: Annotated[
        StoreSize,
        Key(
            "state.size",
            SIZE,
            "How much memory the shared store of a machine takes when a plugin first uses it. Entries may use half of it. If they need "
            "more, expired entries are removed, and then the oldest ones. A new size applies when the file is created again.",
        ),
    ] = 32 * 2**20
    state_url: Annotated[
        str | None,
        Key(
            "state.url",
            SECRET,
            "The URL of Redis or Valkey, which then has the entries of the shared store, for many machines: redis://, rediss://, unix://, "
            "sentinel:// or cluster://. This needs the extra redis.",
            unset="the entries are in the memory of this machine",
        ),
    ] = None
    state_prefix: Annotated[
        str,
        Key(
            "state.prefix",
            WORD,
            "The beginning of all keys in Redis, before a colon. Runners that share entries need the same prefix, and environments that "
            "share a Redis, such as staging and production, need different ones.",
        ),
    ] = "apisix"
    state_pool_size: Annotated[
        Connections,
        Key(
            "state.pool_size",
            COUNT,
            "How many operations with Redis a worker runs at the same time, for coroutines and for plain methods each. Each one has a "
            "connection. Further operations wait.",
        ),
    ] = 32
    state_timeout_s: Annotated[
        Seconds,
        Key(
            "state.timeout",
            DURATION,
            "How long an operation with Redis waits for a free connection, to connect, and for the reply, before it fails.",
        ),
    ] = 1.0

    metadata_expire_s: Annotated[
        Seconds,
        Key(
            "metadata.expire_time",
            DURATION,
            "How long the metadata of a request is kept after it was written, unless a chain of the response phase removes it.",
        ),
    ] = 120.0
    metadata_size: Annotated[
        StoreSize,
        Key(
            "metadata.size",
            SIZE,
            "How much memory the metadata of all requests of a machine takes when a plugin first uses it, in a file in state.directory. "
            "Entries may use half of it. If they need more, expired entries are removed, and then the oldest ones. A new size applies "
            "when the file is created again.",
        ),
    ] = 16 * 2**20  # with state.size, less than the 64 MiB of /dev/shm in a container

    metrics_address: Annotated[
        str | None,
        Key(
            "metrics.address",
            ADDRESS,
            "The address on which metrics are served (/metrics) and the health of the workers (/health). This needs the extra metrics.",
            unset="metrics are off",
        ),
    ] = None
    metrics_allow_remote: Annotated[
        bool,
        Key(
            "metrics.allow_remote",
            SWITCH,
            "Allow a metrics.address that other machines can reach. Everybody who can connect can read the names of plugins and "
            "the numbers of their calls.",
        ),
    ] = False

    record_file: Annotated[
        str | None,
        Key(
            "record.file",
            PATH,
            "The file to which records of calls are written, as JSON lines. If it is set, recording is on from the start. "
            "SIGUSR1 switches it on and off.",
            flag="--record",
            metavar="FILE",
            unset="recording is off, and the file is next to the socket: `<socket>.records.jsonl`",
        ),
    ] = None
    record_at_start: Annotated[
        bool,
        Key(
            "record.at_start",
            SWITCH,
            "Whether recording is on from the start if record.file is set. If not, it is switched on with SIGUSR1 or "
            "`apisix-runner record`.",
        ),
    ] = True
    record_sample: Annotated[
        Fraction, Key("record.sample", FRACTION, "The part of the calls that is recorded. They are selected at random.")
    ] = 1.0
    record_routes: Annotated[
        tuple[str, ...],
        Key("record.routes", NAMES, "The routes whose calls are recorded, by id or by the key that records contain.", unset="all routes"),
    ] = ()
    record_plugins: Annotated[
        tuple[str, ...],
        Key("record.plugins", NAMES, "Only calls of routes with one of these plugins are recorded.", unset="all plugins"),
    ] = ()
    record_only_failures: Annotated[
        bool,
        Key("record.only_failures", SWITCH, "Record only calls that were refused, or in which a plugin failed."),
    ] = False
    record_max_bytes: Annotated[
        SizeAboveZero,
        Key(
            "record.max_bytes",
            SIZE,
            "The size limit for the file. If it is reached, the file is renamed to `<file>.1`, and a new one is created.",
        ),
    ] = 256 * 2**20
    record_files: Annotated[
        AtLeastOne, Key("record.files", COUNT, "How many files are kept, including the one that is written. The oldest one is removed.")
    ] = 4
    record_body_limit: Annotated[
        Size, Key("record.body_limit", SIZE, "How much of each body is recorded. Its size and digest are always recorded.")
    ] = 64 * 2**10
    record_redact: Annotated[
        tuple[str, ...],
        Key(
            "record.redact",
            NAMES,
            "Further names of headers, arguments, variables and JSON fields whose values are secret. Digests replace them.",
            unset="none",
        ),
    ] = ()
    record_redaction: Annotated[
        bool, Key("record.redaction", SWITCH, "Replace secrets by digests. If this is false, the file contains passwords and tokens.")
    ] = True
    record_cpu_share: Annotated[
        FractionAboveZero,
        Key(
            "record.cpu_share",
            FRACTION,
            "The part of one CPU core that each worker may use to make records. While its event loop is busy, it is a twentieth of that. "
            "Calls that cannot be recorded in this time are counted.",
        ),
    ] = 0.1
    tracing_enabled: Annotated[
        bool,
        Key(
            "tracing.enabled",
            SWITCH,
            "Make OpenTelemetry spans of calls and plugins, and export them as the environment variables OTEL_* say. This needs the "
            "extra tracing.",
        ),
    ] = False
    tracing_propagate: Annotated[
        bool,
        Key(
            "tracing.propagate",
            SWITCH,
            "Set the header traceparent of the request, so that the spans of the upstream are children of the runner's span. Set this "
            "only if the gateway has no tracer of its own that sets the header.",
        ),
    ] = False

    notes: tuple[str, ...] = ()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        values = [(row, getattr(self, row.name)) for row in SETTINGS]
        return [(row.name, "(secret)" if row.kind.is_secret and value is not None else value) for row, value in values]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class Setting(msgspec.Struct, frozen=True, eq=False):
    """One row of the table. `name`, `type` and `default` are those of the field of `Settings`. For the other attributes, see `Key`."""

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
        """The environment variables of this setting. The first one that is set takes precedence."""
        own = f"{PREFIX}{self.key.replace('.', '_').upper()}"
        return (own, self.environment) if self.environment else (own,)

    @property
    def allowed(self) -> str:
        """The allowed values, as the end of a sentence that begins with "must be"."""
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
    """Return the words or the bounds that a type allows, or "" if it allows all values."""
    if isinstance(annotation, msgspec.Meta):
        if annotation.le is None or annotation.le == 0o777:  # the bounds of a mode are obvious
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
