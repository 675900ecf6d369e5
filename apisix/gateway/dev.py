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

from apisix.gateway.display.report import NoEffects, RequestReport
from apisix.gateway.display.show import Display, display_for
from apisix.gateway.http.echo import EchoUpstream
from apisix.gateway.http.server import HttpServer
from apisix.gateway.phases.phases import ExtPlugins
from apisix.gateway.phases.quirks import parse_version, quirks_of
from apisix.gateway.routing.admin import DEFAULT_KEY, AdminApi
from apisix.gateway.routing.standalone import RoutesFile
from apisix.gateway.routing.store import Store
from apisix.gateway.runner.connection_pool import RunnerPool
from apisix.gateway.runner.log import RunnerLog
from apisix.gateway.runner.process import RESPAWN_DELAY_S, RunnerNotStarted, RunnerProcess
from apisix.gateway.scratch import scratch_directory
from apisix.gateway.server import Gateway

HOST = "127.0.0.1"
USAGE_ERROR = 2
DEFAULT_PLUGINS = Path("plugins")
DEFAULT_ROUTES = Path("apisix.yaml")

DEBUGGING_TIMEOUT_S = 365 * 86400.0
"""How long the runner may be silent while somebody looks at a plugin in a debugger, in seconds."""

# A saved file is to take effect within a second.
LOOK_INTERVAL_S = 0.1

# Where `new` and the docs say that the echo upstream is.
ECHO_PORT = 1980
# How many of the author's routes are shown as commands to try.
MAX_EXAMPLES = 3

logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int] | None


class DevError(Exception):
    """The development gateway can't start; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the flags of `dev` say. Times are in seconds."""

    config: Path | None
    socket: str | None
    plugins: tuple[Path, ...]
    port: int
    routes: Path
    upstream_port: int
    runner_socket: str | None
    apisix_version: tuple[int, int]
    read_timeout_s: float
    log_level: str | None
    debug: bool = False
    debugpy: str | None = None


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
    read_timeout: float = 60.0,
    json: bool = False,
    log_level: str | None = None,
    debug: bool = False,
    debugpy: str | None = None,
) -> int:
    """
    Serve until Ctrl-C, SIGTERM or the end of the terminal, and return the exit status.

    Args:
        config: the runner's configuration file.
        socket: where the runner is to listen; a temporary path where there is none.
        plugins: directories of plugins; `plugins` of the current directory where none is named, as soon as it is there.
        routes: an apisix.yaml; that of the current directory where none is named, as soon as it is there.
        runner_socket: use a runner that was started elsewhere.
        apisix_version: the release whose quirks to show.
        read_timeout: how long the runner may be silent, in seconds.
        json: print JSON lines.
        debug: let plugins open a prompt with `breakpoint()`, and lift all time limits.
        debugpy: as `debug`, and wait for an editor at this address and port.
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
            read_timeout_s=DEBUGGING_TIMEOUT_S if debug or debugpy else read_timeout,
            log_level=log_level,
            debug=debug or debugpy is not None,
            debugpy=debugpy,
        )
        asyncio.run(_Desk(options, display).serve())
    except (DevError, ValueError) as error:
        print(f"apisix-runner dev: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def _check_debugging(*, debug: bool, debugpy: str | None, elsewhere: bool) -> None:
    if (debug or debugpy) and elsewhere:
        raise DevError("--debug and --debugpy are for the runner that dev starts: leave --runner-socket away")
    if debugpy and find_spec("debugpy") is None:
        raise DevError("--debugpy needs the package debugpy: pip install debugpy")
    if debug and not debugpy and not sys.stdin.isatty():
        raise DevError("--debug needs a terminal, from which the debugger reads. For an editor's debugger, use --debugpy")


def _existing(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise DevError(f"{name} is no file: mend the path, or leave the flag away")
    return path


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    # Of a directory only its being there counts: what is in it is the runner's to watch.
    return (0, 0, 0) if path.is_dir() else (status.st_mtime_ns, status.st_size, status.st_ino)


@contextmanager
def _told_as_taken(port: int, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise DevError(f"can't listen on {HOST}:{port} ({reason}): stop what does, or take another port with {flag}") from error


def _has_default_plugins() -> bool:
    return DEFAULT_PLUGINS.is_dir()


class _Desk:
    """All the parts of one `dev`, stopped in the opposite order of their start."""

    def __init__(self, options: Options, display: Display) -> None:
        self._options = options
        self._display = display
        self._store = Store(display.problems)
        self._routes_file = RoutesFile(options.routes, self._store)
        self._has_default_plugins = not options.plugins and _has_default_plugins()
        self._stop = asyncio.Event()
        self._log = RunnerLog(display.record)
        self._runner: RunnerProcess | None = None
        self._echo_port = 0
        self._on_runner_ended: Callable[[], None] = lambda: None
        self._on_runner_replaced: Callable[[], None] = lambda: None

    async def serve(self) -> None:
        """
        Start everything, and stop it all when told to.

        Raises: DevError: a part can't start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, say
                loop.add_signal_handler(number, self._stop.set)
        work, stopping = asyncio.create_task(self._work()), asyncio.create_task(self._stop.wait())
        await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not work.done():
            with suppress(OSError):  # the terminal may be the reason why
                self._display.notice("stopping")
            work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    async def _work(self) -> None:
        """Start all parts, look after them, and stop them when cancelled, which may be at any point."""
        async with AsyncExitStack() as stack:
            socket = self._prepare_runner(stack)
            pool = RunnerPool(socket, read_timeout_s=self._options.read_timeout_s)
            stack.callback(pool.close)
            plugins = ExtPlugins(pool, quirks_of(self._options.apisix_version))
            self._on_runner_ended = plugins.tokens.flush
            self._on_runner_replaced = self._log.on_replaced = pool.drop
            effects = NoEffects() if self._runner is None else self._log
            apisix_version = ".".join(map(str, self._options.apisix_version))
            gateway = Gateway(self._store, plugins, AdminApi(self._store), self._request, effects)
            # The ports are taken before anything slow begins, and served once the runner is there to be asked.
            servers: list[tuple[EchoUpstream | HttpServer, int, str]] = [
                (EchoUpstream(), self._options.upstream_port, "--upstream-port"),
                (HttpServer(gateway, version=apisix_version), self._options.port, "--port"),
            ]
            self._echo_port, port = [await self._bind(stack, *server) for server in servers]
            stamps = {path: _stamp(path) for path, _ in self._watched()}
            await self._start_runner()
            if stamps[self._options.routes] is not None:
                self._routes_file.load()
            for server, number, flag in servers:
                with _told_as_taken(number, flag):
                    await server.serve()
            self._display.notice(self._welcome(port))
            await self._watch(stamps)

    def _prepare_runner(self, stack: AsyncExitStack) -> str:
        """Make what runs the runner where none was named, and return the path of its socket."""
        if self._options.runner_socket is not None:
            return self._options.runner_socket.removeprefix("unix:")
        directory = stack.enter_context(scratch_directory())
        # The name that APISIX gives: with it the runner knows that its gateway has this pid, and does not outlive it.
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
                raise DevError(f"{error}; its own words stand above") from error

    def _runner_arguments(self) -> list[str]:
        arguments = ["--reload"]
        if self._options.config is not None:
            arguments += ["--config", str(self._options.config)]
        if self._options.log_level is not None:
            arguments += ["--log-level", self._options.log_level]
        for directory in self._plugin_directories():
            arguments += ["--plugins", str(directory)]
        return arguments

    def _plugin_directories(self) -> tuple[Path, ...]:
        return self._options.plugins or ((DEFAULT_PLUGINS,) if self._has_default_plugins else ())

    def _runner_ended(self, status: int) -> None:
        self._on_runner_ended()
        self._display.notice(f"the runner ended with status {status}; it is started again in {RESPAWN_DELAY_S:g} s, as the gateway does")

    async def _bind(self, stack: AsyncExitStack, server: EchoUpstream | HttpServer, port: int, flag: str) -> int:
        stack.push_async_callback(server.stop)
        with _told_as_taken(port, flag):
            return await server.bind(HOST, port)

    def _request(self, report: RequestReport) -> None:
        """Show a request, and why its upstream is not there where that is the echo upstream's usual port."""
        if report.error is not None and report.status == 502 and report.upstream == f"{HOST}:{ECHO_PORT}" and self._echo_port != ECHO_PORT:
            report.error += f"; the echo upstream of this dev is {HOST}:{self._echo_port}"
        self._display.request(report)

    async def _watch(self, before: dict[Path, Stamp]) -> None:
        """
        Read apisix.yaml again, and replace the runner, when what they are made of changes.

        Three files are looked at by their times, as the runner looks at plugins: that works on any file system, and, unlike
        a notification, misses nothing that happens while the watch is being set up.
        """
        on_change = dict(self._watched())
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            now = {path: _stamp(path) for path in on_change}
            for path in [path for path in on_change if now[path] != before[path]]:
                try:
                    await on_change[path]()
                except Exception:  # all that was running goes on
                    logger.exception("%s: a defect of the development gateway itself", path)
            before = now

    def _watched(self) -> Iterator[tuple[Path, Callable[[], Awaitable[None]]]]:
        yield self._options.routes, self._routes_changed
        if self._options.config is not None:
            yield self._options.config, lambda: self._replace_runner(f"{self._options.config}: settings read again")
        if not self._options.plugins:
            yield DEFAULT_PLUGINS, self._plugins_appeared

    async def _routes_changed(self) -> None:
        if self._routes_file.load():
            self._display.notice(f"{self._options.routes}: routes read again")

    async def _plugins_appeared(self) -> None:
        before, self._has_default_plugins = self._has_default_plugins, _has_default_plugins()
        if self._has_default_plugins and not before:
            await self._replace_runner(f"{DEFAULT_PLUGINS}: plugins found")

    async def _replace_runner(self, reason: str) -> None:
        if self._runner is None:
            return

        def replaced() -> None:
            self._on_runner_replaced()
            self._display.notice(reason)

        try:
            await self._runner.replace(self._runner_arguments(), replaced)
        except RunnerNotStarted as error:
            self._display.notice(f"{error}; the old runner goes on")

    def _welcome(self, port: int) -> str:
        gateway = f"http://{HOST}:{port}"
        plugins = (
            ", ".join(str(directory) for directory in self._plugin_directories())
            or f"the built-in ones, and ./{DEFAULT_PLUGINS} when it is there"
        )
        routes = (
            self._options.routes
            if self._options.routes.exists()
            else f"over the admin API, or in ./{self._options.routes} when it is there"
        )
        commands = "\n\n".join(f"  {command}" for command in self._to_try(gateway))
        return f"""\
gateway   {gateway}
upstream  http://{HOST}:{self._echo_port} echoes what it gets
plugins   {plugins}
routes    {routes}

Try, in a second terminal:

{commands}

{self._debugging()}Ctrl-C stops everything.
"""

    def _debugging(self) -> str:
        if self._options.debugpy is not None:
            return f"debugpy waits for an editor at {self._options.debugpy}. There are no time limits.\n\n"
        return "breakpoint() in a plugin opens a prompt here. There are no time limits.\n\n" if self._options.debug else ""

    def _to_try(self, gateway: str) -> list[str]:
        """Return commands that show something: calls of the author's own routes, else how to make one."""
        if paths := self._store.router.example_paths()[:MAX_EXAMPLES]:
            return [f"curl -i {gateway}{path}" for path in paths]
        route = (
            '{"uri":"/get","plugins":{"ext-plugin-pre-req":{"conf":[{"name":"stop","value":"{\\"body\\":\\"hello\\"}"}]}},'
            f'"upstream":{{"type":"roundrobin","nodes":{{"{HOST}:{self._echo_port}":1}}}}}}'
        )
        return [f"curl {gateway}/apisix/admin/routes/1 -H 'X-API-KEY: {DEFAULT_KEY}' -X PUT -d '{route}'", f"curl {gateway}/get -i"]
