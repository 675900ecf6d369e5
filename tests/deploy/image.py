# SPDX-License-Identifier: Apache-2.0
"""
Build the image without a container runtime, and check what comes out.

`make verify-image` (`python -m tests.deploy.image`) carries out the instructions of `deploy/docker/Dockerfile` in directories that begin as
copies of a minimal Debian, made by debootstrap, and enters them with chroot. It then starts the result as process 1 of a PID namespace, as
uid 636, on a read-only file system. The same is done with the Dockerfile of a new project. For the target `all-in-one`, see `all_in_one`.
This needs root, Linux, debootstrap, and the package registries of Debian and PyPI.

What this does not check: the base image itself, which has fewer files than a minimal Debian of debootstrap, layers, and metadata of the
image such as HEALTHCHECK, except that its command works.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from tests.deploy import all_in_one, probe
from tests.docs.pages import CHECKOUT

DOCKERFILE: Final = CHECKOUT / "deploy" / "docker" / "Dockerfile"
MIRROR: Final = "http://deb.debian.org/debian"
USER: Final = 636
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUN_DIRECTORY: Final = "/run/apisix-runner"
BUILD_LIMIT_S: Final = 1800.0
COMMAND_LIMIT_S: Final = 60.0
UNNAMED: Final = "unnamed"
"""What a stage without a name is called here."""


@dataclass
class Stage:
    """A stage of the Dockerfile: its file system, and what later stages and the container inherit."""

    root: Path
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    directory: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Dockerfile and their arguments. Lines that end with a backslash are joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            keyword, _, rest = line.partition(" ")
            yield keyword.upper(), rest.strip()


class Builder:
    """Carries out the instructions that the Dockerfile uses, and fails at others."""

    def __init__(self, base: Path, work: Path, context: Path, arguments: dict[str, str]) -> None:
        self._base = base
        self._work = work
        self._context = context
        self._given = arguments
        self._values: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}
        self._stage = Stage(base)
        self._do: dict[str, Callable[[str], None]] = {
            "ARG": self._arg,
            "FROM": self._from,
            "USER": lambda rest: setattr(self._stage, "user", rest.partition(":")[0]),
            "RUN": self._run,
            "WORKDIR": self._workdir,
            "COPY": self._copy,
            "ENV": self._env,
            "LABEL": lambda _: None,
            "ENTRYPOINT": lambda rest: setattr(self._stage, "entrypoint", json.loads(rest)),
            "CMD": lambda rest: setattr(self._stage, "command", json.loads(rest)),
            "HEALTHCHECK": lambda rest: setattr(self._stage, "health", json.loads(rest.partition("CMD ")[2])),
        }

    def build(self, text: str, target: str, skip: str = "") -> Stage:
        """Build the stages up to `target` without the one called `skip`, and return it."""
        skipped = False
        for keyword, rest in instructions(text):
            if keyword == "FROM":
                if target in self.stages:
                    break
                skipped = rest.rpartition(" AS ")[2] == skip
            if skipped:
                continue
            print(f"  {keyword} {rest[:120]}", flush=True)
            self._do[keyword](rest)
        return self.stages[target]

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self._values[name] = self._given.get(name, default)

    def _from(self, rest: str) -> None:
        parent, _, name = self._expanded(rest).partition(" AS ")
        name = name or UNNAMED
        before = self.stages.get(parent, Stage(self._base))
        root = self._work / name
        self._work.mkdir(exist_ok=True)
        subprocess.run(["cp", "--archive", "--reflink=auto", str(before.root), str(root)], check=True, timeout=COMMAND_LIMIT_S * 5)
        self._stage = Stage(root, dict(before.environ), before.directory, before.user, before.entrypoint, before.command, before.health)
        self.stages[name] = self._stage

    def _run(self, rest: str) -> None:
        mount = re.match(r"--mount=type=bind,from=(\w+),source=(\S+),target=(\S+)\s+", rest)
        if mount:
            rest = rest[mount.end() :]
            (self._stage.root / mount[3].lstrip("/")).mkdir()
            source = self.stages[mount[1]].root / mount[2].lstrip("/")
            bind = f"mount --bind {source} {self._stage.root}{mount[3]} && "
        else:
            bind = ""
        inner = shlex.quote(f"cd {self._stage.directory} && {rest}")
        script = f"{bind}mount -t proc proc {self._stage.root}/proc && exec chroot {self._stage.root} sh -c {inner}"
        environ = {**self._stage.environ, **self._values, **network_environ(self._stage.root), "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script], env=environ, check=True, timeout=BUILD_LIMIT_S
        )
        if mount:
            (self._stage.root / mount[3].lstrip("/")).rmdir()

    def _workdir(self, rest: str) -> None:
        self._stage.directory = rest
        (self._stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        source, target = rest.split()
        into = self._stage.root / (self._stage.directory if target == "." else target).lstrip("/")
        into.parent.mkdir(parents=True, exist_ok=True)
        if source == "." and self._context == CHECKOUT:
            copy_context(self._context, into)
        elif source == ".":
            shutil.copytree(self._context, into)
        else:
            shutil.copy(self._context / source, into)

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self._stage.environ[name] = value.replace("${PATH}", self._stage.environ["PATH"])

    def _expanded(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda match: self._values[match[1]], text)


def copy_context(context: Path, into: Path) -> None:
    """Copy the files of the checkout that `Dockerfile.dockerignore` leaves."""
    rules = [line for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines() if line and line[0] != "#"]
    left = [rule[1:] for rule in rules if rule[0] == "!"]
    names = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    for name in left:
        source, target = context / name, into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=lambda _, files: {file for file in files for rule in names if fnmatch(file, rule)})
        else:
            shutil.copy(source, target)


def network_environ(root: Path) -> dict[str, str]:
    """Let pip in `root` use the registry that pip uses here. The certificates are deleted from the result by `clean`."""
    environ = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or name.startswith("PIP_")}
    environ.pop("PIP_FIND_LINKS", None)
    environ.pop("PIP_CONSTRAINT", None)
    if certificates := environ.get("PIP_CERT"):
        shutil.copy(certificates, root / "pip-certificates")
        environ["PIP_CERT"] = "/pip-certificates"
    return environ


def clean(root: Path) -> None:
    """Delete what is only there because this is not a container runtime."""
    for name in ("pip-certificates", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)


def make_base(suite: str, directory: Path) -> None:
    """Make a minimal Debian. What debootstrap mounts in it is unmounted when it ends, for whatever reason."""
    partial = directory.with_name("base.partial")
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "debootstrap", "--variant=minbase", suite, str(partial), MIRROR]
    subprocess.run(command, check=True, timeout=BUILD_LIMIT_S, stdout=subprocess.DEVNULL)
    partial.rename(directory)
    for file in (*(directory / "var/cache/apt").rglob("*.*"), *(directory / "var/lib/apt/lists").glob("*_*")):
        file.unlink()
    shutil.copy("/etc/resolv.conf", directory / "etc" / "resolv.conf")
    # As in the images of Debian: apt keeps no caches of its own.
    (directory / "etc/apt/apt.conf.d/docker-clean").write_text(
        'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache ""; Acquire::Languages "none";\n'
    )


def size_mib(directory: Path) -> float:
    """Return how much space the files of a directory use, in MiB."""
    output = subprocess.run(["du", "-sxk", str(directory)], check=True, capture_output=True, text=True, timeout=COMMAND_LIMIT_S).stdout
    return int(output.split()[0]) / 1024


class Container:
    """
    The result as a container runtime would start it: as uid 636, in a PID namespace of its own.

    Args:
        command: the command of process 1.
        environ: variables besides those of the image.
        mounts: commands that mount further file systems.
    """

    def __init__(self, stage: Stage, command: list[str], environ: dict[str, str] | None = None, mounts: Sequence[str] = ()) -> None:
        self._stage = stage
        root = stage.root
        pairs = [f"{name}={value}" for name, value in {**stage.environ, **(environ or {})}.items()]
        self._enter = ["chroot", f"--userspec={USER}:{USER}", str(root), "env", "-i", *pairs]
        script = " && ".join([*mounts, f"mount -t proc proc {root}/proc", f"cd {root}", f"exec {shlex.join([*self._enter, *command])}"])
        self._outer = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script])
        self.pid = self._inner_pid()

    def _inner_pid(self) -> int:
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            if found := children.read_text().split():
                return int(found[0])
            time.sleep(0.005)
        raise RuntimeError("unshare has started no process")

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container, as its user."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", *self._enter, *command]
        return subprocess.run(enter, check=False, capture_output=True, text=True, timeout=COMMAND_LIMIT_S)

    def wait_until_healthy(self) -> str:
        """Run the command of HEALTHCHECK until it succeeds, and return its output."""
        deadline_s = time.monotonic() + 30
        while (result := self.run(*self._stage.health)).returncode != 0:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"the runner is not healthy: {result.stdout}{result.stderr}")
            time.sleep(0.1)
        return result.stdout.strip()

    def stop(self, signum: signal.Signals) -> tuple[int, float]:
        """Send a signal, and return the exit status and the seconds until the runner has exited."""
        began_s = time.monotonic()
        os.kill(self.pid, signum)
        status = self._outer.wait(COMMAND_LIMIT_S)
        return status, time.monotonic() - began_s

    def kill(self) -> None:
        """End it at once."""
        self._outer.kill()
        self._outer.wait(COMMAND_LIMIT_S)


Way = tuple[str, dict[str, str], signal.Signals, int]
WAYS: Final[tuple[Way, ...]] = (
    ("a directory of the runner's user", {}, signal.SIGTERM, 0o755),
    ("stop without waiting", {"APISIX_RUNNER_WORKERS_STOP_ACCEPTING_AFTER": "0"}, signal.SIGTERM, 0o755),
    ("a directory that all users can write, as an emptyDir of Kubernetes", {}, signal.SIGINT, 0o777),
)
"""How the result is started and stopped: what is tried, further variables, the signal, and the mode of the directory of the socket."""


def check(stage: Stage, ways: Sequence[Way] = WAYS) -> list[str]:
    """Start the result in each of the ways, with a read-only root and a directory for the socket in memory, and return the problems."""
    problems = []
    for what, environ, signum, mode in ways:
        print(f"  {what}:", flush=True)
        mounts = (
            f"mount --bind {stage.root} {stage.root}",
            f"mount -o remount,ro,bind {stage.root}",
            f"mount -t tmpfs -o uid={USER},gid={USER},mode={mode:o} tmpfs {stage.root}{RUN_DIRECTORY}",
            probe.DEV_SHM.format(root=stage.root),
        )
        container = Container(stage, [*stage.entrypoint, *stage.command], environ, mounts)
        try:
            print(f"    {container.wait_until_healthy()}", flush=True)
            problems += problems_of(container)
            problems += probe.problems_of(container, f"{RUN_DIRECTORY}/runner.sock")
            status, took_s = container.stop(signum)
        finally:
            container.kill()
        print(f"    {signum.name}: status {status} after {took_s:.2f} s", flush=True)
        if status != 0 or took_s > 3:
            problems.append(f"{signum.name}: status {status} after {took_s:.2f} s")
    return problems


def build_project(work: Path, runner: Stage) -> Stage:
    """Create a project with `apisix-runner new`, and build its image on top of the runner's. This fails if a plugin can't be loaded."""
    project = work / "hello-project"
    subprocess.run(
        [sys.executable, "-m", "apisix", "new", "--project", str(project)], check=True, timeout=COMMAND_LIMIT_S, capture_output=True
    )
    builder = Builder(runner.root, work / "derived", project, {})
    builder.stages["apisix-python-runner"] = runner
    return builder.build((project / "Dockerfile").read_text(), UNNAMED)


def check_all_in_one(stage: Stage) -> list[str]:
    """Let what takes the place of the gateway start the runner, as process 1 and below another one, and return the problems."""
    problems = []
    gateway = all_in_one.add_gateway(stage)
    init = ["sh", "-c", '"$@" & wait; sleep 60', "init", *gateway]
    for what, command, check in (
        ("the gateway is process 1", gateway, all_in_one.check_stop),
        ("the gateway is killed", init, all_in_one.check_kill),
    ):
        print(f"  {what}:", flush=True)
        container = Container(stage, command, mounts=[probe.DEV_SHM.format(root=stage.root)])
        try:
            problems += check(container)
        finally:
            container.kill()
    return problems


def problems_of(container: Container) -> list[str]:
    """Check the user, the file system, and that process 1 waits for processes that have ended."""
    script = "id -u; cat /proc/1/comm; touch /file 2>&1; grep ^Uid /proc/1/status; ls -A /run/apisix-runner"
    user, name, touched, uids, *files = container.run("sh", "-c", script).stdout.split("\n")
    print(f"    uid {user}; process 1 is {name}; {touched}; {RUN_DIRECTORY} contains {', '.join(filter(None, files))}", flush=True)
    container.run("sh", "-c", "(sleep 0.2 & sleep 0.1 & true)")  # their parent ends first, so process 1 becomes their parent
    deadline_s = time.monotonic() + 5
    while "sleep" in (found := container.run("sh", "-c", "cat /proc/[0-9]*/comm").stdout) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    print(f"    processes of orphans that are left: {found.count('sleep')}", flush=True)
    problems = ["process 1 does not wait for processes that have ended"] if "sleep" in found else []
    if user != str(USER) or "Read-only" not in touched or uids.split()[1] != str(USER):
        problems.append(f"the container is not as expected: user {user}, {touched}, {uids}")
    return problems


def main() -> int:
    """Build the image, print its size, check it, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="trixie", help="the release of Debian that debootstrap installs (trixie)")
    parser.add_argument("--extras", default="metrics,tracing", help="the build argument EXTRAS (metrics,tracing)")
    parser.add_argument("--keep", type=Path, help="a directory in which the file systems are kept")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        print("this needs root and debootstrap: sudo apt-get install debootstrap", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="image-") as temporary:
        work = arguments.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        base = work / "base"
        if not base.exists():
            print(f"base: debootstrap --variant=minbase {arguments.suite}", flush=True)
            make_base(arguments.suite, base)
        text, values = DOCKERFILE.read_text(), {"EXTRAS": arguments.extras}
        print("build runner:", flush=True)
        builder = Builder(base, work, CHECKOUT, values)
        stage = builder.build(text, "runner", skip="all-in-one")
        print("build all-in-one:", flush=True)
        gateway_base = work / "gateway-base"
        all_in_one.make_base(base, gateway_base)
        gateway_builder = Builder(gateway_base, work / "gateway", CHECKOUT, values)
        gateway_builder.stages["build"] = builder.stages["build"]  # the gateway in the base does not change the wheels
        with_gateway = gateway_builder.build(text, "all-in-one", skip="build")
        print("build the image of a new project:", flush=True)
        with_plugins = build_project(work, stage)
        for each in (with_plugins, *builder.stages.values(), *gateway_builder.stages.values()):
            clean(each.root)
        sizes = {"base": base, "runner": stage.root, "/opt/runner": stage.root / "opt/runner", "all-in-one": with_gateway.root}
        print("size: " + ", ".join(f"{name} {size_mib(directory):.0f} MiB" for name, directory in sizes.items()))
        for each in (stage, with_plugins, with_gateway):
            probe.add(each, hello=each is not with_plugins)
        print("check runner:", flush=True)
        problems = check(stage)
        print("check the image of a new project:", flush=True)
        problems += check(with_plugins, WAYS[:1])
        print("check all-in-one:", flush=True)
        problems += check_all_in_one(with_gateway)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
