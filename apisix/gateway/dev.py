# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner dev`: a gateway, an upstream and a runner, on this machine, until Ctrl-C."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from apisix.gateway.display import Display, display_for
from apisix.gateway.http.echo import EchoUpstream
from apisix.gateway.http_server import HttpServer
from apisix.gateway.inspector.actions import Actions
from apisix.gateway.inspector.background import Background
from apisix.gateway.inspector.configurations import Configurations
from apisix.gateway.inspector.load_errors import LoadErrors
from apisix.gateway.inspector.plugin_check import PluginCheck
from apisix.gateway.inspector.routes import Routes
from apisix.gateway.inspector.saved_test import SavedTests
from apisix.gateway.inspector.server import Inspector
from apisix.gateway.phases.phases import ExtPlugins
from apisix.gateway.phases.quirks import Version, default_router, parse_version, pool_for, quirks_of, release_text, unknown_plugins
from apisix.gateway.report import NoRecords, RequestReport
from apisix.gateway.resources.admin import DEFAULT_KEY, AdminApi
from apisix.gateway.resources.definitions import Problem
from apisix.gateway.resources.standalone import RoutesFile
from apisix.gateway.resources.store import Store
from apisix.gateway.runner.log import Record, RunnerLog
from apisix.gateway.runner.process import RESPAWN_DELAY_S, RunnerNotStarted, RunnerProcess
from apisix.gateway.scratch import scratch_directory
from apisix.gateway.server import Gateway

HOST = "127.0.0.1"
USAGE_ERROR = 2
DEFAULT_PLUGINS = Path("plugins")
DEFAULT_ROUTES = Path("apisix.yaml")

DEBUGGING_TIMEOUT_S = 365 * 86400.0
"""The read timeout of the runner while a plugin is debugged, in seconds."""

# A saved file must take effect within a second.
LOOK_INTERVAL_S = 0.1

# The port of the echo upstream in the docs and in the routes that `new` prints.
ECHO_PORT = 1980
# The port of the inspector, unless it is taken or another one is requested.
INSPECT_PORT = 9081
# How many of the author's routes are printed as commands to try.
MAX_EXAMPLES = 3

logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int] | None
Server = EchoUpstream | HttpServer | Inspector


class DevError(Exception):
    """The development gateway can't start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `dev`. Times are in seconds."""

    config: Path | None
    socket: str | None
    plugins: tuple[Path, ...]
    port: int
    routes: Path
    upstream_port: int
    runner_socket: str | None
    apisix_version: Version
    read_timeout_s: float | None
    router: str
    admin_key: str | None
    log_level: str | None
    debug: bool = False
    debugpy: str | None = None
    inspect: bool = True
    inspect_port: int | None = None


def run(
    *,
    config: str | None = None,
    socket: str | None = None,
    plugins: Sequence[str] = (),
    port: int = 9080,
    routes: str | None = None,
    upstream_port: int = 1980,
    runner_socket: str | None = None,
    apisix_version: str = "3.18",
    router: str | None = None,
    read_timeout: float | None = None,
    admin_key: str | None = None,
    json: bool = False,
    log_level: str | None = None,
    debug: bool = False,
    debugpy: str | None = None,
    inspect: bool = True,
    inspect_port: int | None = None,
) -> int:
    """
    Serve until Ctrl-C, SIGTERM or SIGHUP, and return the exit status.

    Args:
        config: the runner's configuration file.
        socket: the path on which the runner listens; a temporary path if None.
        plugins: directories of plugins; if none is given, `plugins` in the current directory, as soon as it exists.
        routes: an apisix.yaml; if None, the one in the current directory, as soon as it exists.
        runner_socket: the socket of a runner that is already running; no runner is started.
        apisix_version: the release of APISIX to emulate.
        router: APISIX's setting `apisix.router.http`, one of `ROUTERS`; the default of the emulated release if None.
        read_timeout: how long to wait for data from the runner, in seconds; that of the emulated release if None.
        admin_key: the key of the admin API. If None, it is the one of APISIX's documentation for requests to a loopback name.
        json: print JSON lines.
        debug: let plugins open a prompt with `breakpoint()`, and lift all time limits.
        debugpy: same as `debug`, but wait for an editor at this address and port.
        inspect: false to start no inspector.
        inspect_port: the port of the inspector. If None, it is `INSPECT_PORT`, or a free port if that is taken.
    """
    display = display_for(json=json)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        _check_debugging(debug=debug, debugpy=debugpy, elsewhere=runner_socket is not None)
        options = Options(
            config=_existing(config) if config else None,
            socket=socket,
            plugins=tuple(Path(directory) for directory in plugins),
            port=port,
            routes=_existing(routes) if routes else DEFAULT_ROUTES,
            upstream_port=upstream_port,
            runner_socket=runner_socket,
            apisix_version=parse_version(apisix_version),
            router=router or default_router(parse_version(apisix_version)),
            admin_key=admin_key,
            read_timeout_s=DEBUGGING_TIMEOUT_S if debug or debugpy else read_timeout,
            log_level=log_level,
            debug=debug or debugpy is not None,
            debugpy=debugpy,
            inspect=inspect,
            inspect_port=inspect_port,
        )
        asyncio.run(_Dev(options, display).serve())
    except (DevError, ValueError) as error:
        print(f"apisix-runner dev: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def _check_debugging(*, debug: bool, debugpy: str | None, elsewhere: bool) -> None:
    if (debug or debugpy) and elsewhere:
        raise DevError("--debug and --debugpy apply to the runner that dev starts: remove --runner-socket")
    if debugpy and find_spec("debugpy") is None:
        raise DevError("--debugpy needs the package debugpy: pip install debugpy")
    if debug and not debugpy and not sys.stdin.isatty():
        raise DevError("--debug needs a terminal, from which the debugger reads. For an editor's debugger, use --debugpy")


def _existing(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise DevError(f"{name} is not a file: correct the path or remove the flag")
    return path


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    # For a directory, only its existence matters, because the runner watches the files in it.
    return (0, 0, 0) if path.is_dir() else (status.st_mtime_ns, status.st_size, status.st_ino)


@contextmanager
def _reported_as_taken(port: int, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise DevError(f"can't listen on {HOST}:{port} ({reason}): stop that process, or choose another port with {flag}") from error


def _has_default_plugins() -> bool:
    return DEFAULT_PLUGINS.is_dir()


class _Dev:
    """All parts of one `dev`. They are stopped in the reverse order of their start."""

    def __init__(self, options: Options, display: Display) -> None:
        self._options = options
        self._display = display
        self._store = Store(self._problems, router=options.router, unknown_plugins=unknown_plugins(quirks_of(options.apisix_version)))
        self._routes_file = RoutesFile(options.routes, self._store)
        self._has_default_plugins = not options.plugins and _has_default_plugins()
        self._stop = asyncio.Event()
        display.on_closed = self._stop.set
        self._inspector = Inspector() if options.inspect else None
        self._background = None if self._inspector is None else Background(self._inspector)
        self._load_errors = None if self._inspector is None else LoadErrors(self._inspector)
        self._plugin_check = PluginCheck(self._check_arguments)
        self._log = RunnerLog(self._record)
        self._runner: RunnerProcess | None = None
        self._echo_port = 0
        self._on_runner_ended: Callable[[], None] = lambda: None
        self._on_runner_replaced: Callable[[], None] = lambda: None

    async def serve(self) -> None:
        """
        Start all parts, and stop them on a signal, or if the standard output is closed.

        Raises:
            DevError: a part can't start.
            BrokenPipeError: the reader of the standard output has closed it.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # for example under nohup
                loop.add_signal_handler(number, self._stop.set)
        work, stopping = asyncio.create_task(self._work()), asyncio.create_task(self._stop.wait())
        await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not work.done():
            with suppress(OSError):  # the terminal may have gone away
                self._display.notice("stopping")
            work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        if self._display.is_closed:
            raise BrokenPipeError

    async def _work(self) -> None:
        """Start and watch all parts, and stop them when this task is cancelled, which may be at any point."""
        async with AsyncExitStack() as stack:
            socket = self._prepare_runner(stack)
            quirks = quirks_of(self._options.apisix_version)
            pool = pool_for(socket, quirks, self._options.read_timeout_s)
            stack.callback(pool.close)
            plugins = ExtPlugins(pool, quirks)
            self._on_runner_ended = plugins.tokens.flush
            self._on_runner_replaced = pool.drop
            self._log.on_replaced = self._workers_replaced
            records = NoRecords() if self._runner is None else self._log
            gateway = Gateway(
                self._store, plugins, AdminApi(self._store, self._options.admin_key, self._options.apisix_version), self._request, records
            )
            # Ports are bound before anything slow starts, and connections are accepted once the runner listens.
            servers: list[tuple[Server, int, str]] = [
                (EchoUpstream(), self._options.upstream_port, "--upstream-port"),
                (HttpServer(gateway, version=release_text((*self._options.apisix_version, 0)[:3])), self._options.port, "--port"),
            ]
            self._echo_port, port = [await self._bind(stack, *server) for server in servers]
            inspect_port = await self._serve_inspector(stack)
            stamps = {path: _stamp(path) for path, _ in self._watched()}
            if self._inspector is not None:
                configurations = Configurations(self._inspector, self._store, self._plugin_check)
                stack.callback(asyncio.create_task(configurations.follow()).cancel)
            await self._start_runner()
            if stamps[self._options.routes] is not None:
                self._routes_file.load()
            for server, number, flag in servers:
                with _reported_as_taken(number, flag):
                    await server.serve()
            if self._inspector is not None:
                gateway.on_received = self._inspector.received
                self._inspector.gateway = f"http://{HOST}:{port}"
                actions = Actions(self._inspector, gateway, port)
                SavedTests(self._inspector, self._plugin_check, self._plugin_directories, actions.run_again)
                Routes(self._inspector, self._store, self._routes_file, self._plugin_check, configurations, self._reloaded)
            self._display.notice(self._welcome(port, inspect_port))
            await self._watch(stamps)

    def _prepare_runner(self, stack: AsyncExitStack) -> str:
        """Prepare the runner process unless a running one was given, and return the path of the socket."""
        if self._options.runner_socket is not None:
            return self._options.runner_socket.removeprefix("unix:")
        directory = stack.enter_context(scratch_directory())
        # APISIX names the socket like this. From the name the runner learns the pid of its gateway, and it ends with that process.
        socket = (self._options.socket or f"{directory}/apisix-{os.getpid()}.sock").removeprefix("unix:")
        self._runner = RunnerProcess(
            socket, self._runner_arguments(), self._log.line, self._runner_ended, debug=self._options.debug, debugpy=self._options.debugpy
        )
        stack.push_async_callback(self._runner.stop)
        return socket

    async def _start_runner(self) -> None:
        if self._runner is not None:
            try:
                await self._runner.start()
            except RunnerNotStarted as error:
                raise DevError(f"{error}; see its output above") from error

    def _runner_arguments(self) -> list[str]:
        arguments = ["--reload", *self._check_arguments()]
        if self._options.log_level is not None:
            arguments += ["--log-level", self._options.log_level]
        return arguments

    def _check_arguments(self) -> list[str]:
        """Return the flags that name the plugins."""
        arguments = [] if self._options.config is None else ["--config", str(self._options.config)]
        for directory in self._plugin_directories():
            arguments += ["--plugins", str(directory)]
        return arguments

    def _plugin_directories(self) -> tuple[Path, ...]:
        return self._options.plugins or ((DEFAULT_PLUGINS,) if self._has_default_plugins else ())

    def _runner_ended(self, status: int) -> None:
        self._on_runner_ended()
        self._notice(f"the runner ended with status {status}; it will be restarted in {RESPAWN_DELAY_S:g} s, as the gateway does")

    async def _serve_inspector(self, stack: AsyncExitStack) -> int | None:
        """
        Start the inspector and return its port; None if there is no inspector.

        It accepts connections at once: two processes can bind the same port until one of them listens.
        """
        if self._inspector is None:
            return None
        stack.push_async_callback(self._inspector.stop)
        if self._options.inspect_port is None:
            with suppress(OSError):  # another dev is running
                return await self._listen(self._inspector, INSPECT_PORT)
        number = self._options.inspect_port or 0
        with _reported_as_taken(number, "--inspect-port"):
            return await self._listen(self._inspector, number)

    async def _listen(self, inspector: Inspector, port: int) -> int:
        bound = await inspector.bind(HOST, port)
        try:
            await inspector.serve()
        except OSError:
            await inspector.stop()
            raise
        return bound

    async def _bind(self, stack: AsyncExitStack, server: Server, port: int, flag: str) -> int:
        stack.push_async_callback(server.stop)
        with _reported_as_taken(port, flag):
            return await server.bind(HOST, port)

    def _record(self, record: Record) -> None:
        """Show a line of the runner's log."""
        self._display.record(record)
        if self._inspector is not None:
            self._inspector.log(record)
        if self._background is not None:
            self._background.record(record)
        if self._load_errors is not None:
            self._load_errors.record(record)

    def _problems(self, problems: Sequence[Problem]) -> None:
        """Show what is wrong with the routes."""
        self._display.problems(problems)
        for problem in problems:
            self._inform("problem", str(problem))

    def _notice(self, text: str) -> None:
        """Show a message."""
        self._display.notice(text)
        self._inform("notice", text)

    def _reloaded(self, text: str) -> None:
        """Show that the runner has new plugins or the gateway has new routes: requests can have another result now."""
        self._display.notice(text)
        self._inform("reloaded", text)

    def _workers_replaced(self) -> None:
        self._on_runner_replaced()
        self._plugin_check.forget()
        self._inform("reloaded", "the plugins were reloaded")

    def _inform(self, event: str, data: object) -> None:
        if self._inspector is not None:
            self._inspector.send(event, data)

    def _request(self, report: RequestReport) -> None:
        """Show a request. If its upstream is the usual port of the echo upstream and nothing listens there, say where that one listens."""
        if report.error is not None and report.status == 502 and report.upstream == f"{HOST}:{ECHO_PORT}" and self._echo_port != ECHO_PORT:
            report.error += f"; the echo upstream of this dev is {HOST}:{self._echo_port}"
        self._display.request(report)
        if self._inspector is not None:
            self._inspector.request(report)

    async def _watch(self, before: dict[Path, Stamp]) -> None:
        """
        Load apisix.yaml again, or replace the runner, when their files change.

        The modification times of three files are compared, as the runner does for plugins. This works on any file system and, unlike
        notifications, does not miss changes during its set-up.
        """
        on_change = dict(self._watched())
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            now = {path: _stamp(path) for path in on_change}
            for path in [path for path in on_change if now[path] != before[path]]:
                try:
                    await on_change[path]()
                except Exception:  # everything that was running continues
                    logger.exception("%s: an error in the development gateway itself", path)
            before = now

    def _watched(self) -> Iterator[tuple[Path, Callable[[], Awaitable[None]]]]:
        yield self._options.routes, self._routes_changed
        if self._options.config is not None:
            yield self._options.config, lambda: self._replace_runner(f"{self._options.config}: settings reloaded")
        if not self._options.plugins:
            yield DEFAULT_PLUGINS, self._plugins_appeared

    async def _routes_changed(self) -> None:
        if self._routes_file.load():
            self._reloaded(f"{self._options.routes}: routes reloaded")

    async def _plugins_appeared(self) -> None:
        before, self._has_default_plugins = self._has_default_plugins, _has_default_plugins()
        if self._has_default_plugins and not before:
            await self._replace_runner(f"{DEFAULT_PLUGINS}: plugins found")

    async def _replace_runner(self, reason: str) -> None:
        if self._runner is None:
            return

        def replaced() -> None:
            self._on_runner_replaced()
            self._plugin_check.forget()
            self._reloaded(reason)

        try:
            await self._runner.replace(self._runner_arguments(), replaced)
        except RunnerNotStarted as error:
            self._notice(f"{error}; the old runner continues")

    def _welcome(self, port: int, inspect_port: int | None) -> str:
        gateway = f"http://{HOST}:{port}"
        plugins = (
            ", ".join(str(directory) for directory in self._plugin_directories())
            or f"the built-in ones, and ./{DEFAULT_PLUGINS} once it exists"
        )
        routes = (
            self._options.routes if self._options.routes.exists() else f"from the admin API, or ./{self._options.routes} once it exists"
        )
        inspector = "" if inspect_port is None else f"inspector http://{HOST}:{inspect_port} shows the requests in a browser\n"
        release = release_text(self._options.apisix_version)
        is_default = self._options.router == default_router(self._options.apisix_version)
        router = (
            f"{self._options.router}, {'the default' if is_default else 'not the default'} of APISIX {release}; --router selects another"
        )
        commands = "\n\n".join(f"  {command}" for command in self._to_try(gateway))
        return f"""\
gateway   {gateway}
{inspector}upstream  http://{HOST}:{self._echo_port} echoes the request
plugins   {plugins}
routes    {routes}
router    {router}

Try, in a second terminal:

{commands}

{self._debugging()}Ctrl-C stops everything.
"""

    def _debugging(self) -> str:
        if self._options.debugpy is not None:
            return f"debugpy waits for an editor at {self._options.debugpy}. There are no time limits.\n\n"
        return "breakpoint() in a plugin opens a prompt here. There are no time limits.\n\n" if self._options.debug else ""

    def _to_try(self, gateway: str) -> list[str]:
        """Return commands to try: calls of the author's own routes, or a command that creates a route."""
        if paths := self._store.router.example_paths()[:MAX_EXAMPLES]:
            return [f"curl -i {gateway}{path}" for path in paths]
        route = (
            '{"uri":"/get","plugins":{"ext-plugin-pre-req":{"conf":[{"name":"stop","value":"{\\"body\\":\\"hello\\"}"}]}},'
            f'"upstream":{{"type":"roundrobin","nodes":{{"{HOST}:{self._echo_port}":1}}}}}}'
        )
        return [f"curl {gateway}/apisix/admin/routes/1 -H 'X-API-KEY: {DEFAULT_KEY}' -X PUT -d '{route}'", f"curl {gateway}/get -i"]
