# SPDX-License-Identifier: Apache-2.0
"""
The image with the gateway and a managed runner: a base like the gateway's image, and checks of the runner that a gateway starts in it.

Images of the gateway can't be built without a container runtime, so the base is a minimal Debian with the user and the directories of the
gateway, and `gateway_processes` takes the place of nginx. `python -m tests.deploy.image` calls this module.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from tests.deploy import probe
from tests.docs.pages import CHECKOUT

if TYPE_CHECKING:
    from tests.deploy.image import Container, Stage

GATEWAY: Final = "/usr/local/apisix"
PROCESSES: Final = CHECKOUT / "tests/deploy/gateway_processes.py"
ENVIRON: Final = {"APISIX_CONF_EXPIRE_TIME", "APISIX_LISTEN_ADDRESS"}
ENDS_WITHIN_S: Final = 10.0
# As in the gateway's Dockerfile for Debian.
PREPARE: Final = f"""
groupadd --system --gid 636 apisix
useradd --system --gid apisix --no-create-home --shell /usr/sbin/nologin --uid 636 apisix
mkdir -p {GATEWAY}/conf {GATEWAY}/logs
chown -R apisix:0 {GATEWAY}
chmod -R g=u {GATEWAY}
"""


def make_base(base: Path, directory: Path) -> None:
    """Make the base of the image: a copy of a minimal Debian, with the user and the directories of the gateway."""
    subprocess.run(["cp", "--archive", "--reflink=auto", str(base), str(directory)], check=True, timeout=300)
    subprocess.run(["chroot", str(directory), "sh", "-ec", PREPARE], check=True, timeout=60)


def add_gateway(stage: "Stage") -> list[str]:
    """Add what takes the place of the gateway. Return its command."""
    directory = stage.root / "gateway"
    directory.mkdir(exist_ok=True)
    shutil.copy(PROCESSES, directory)
    command = yaml.safe_load((stage.root / GATEWAY.lstrip("/") / "conf/config.yaml").read_text())["ext-plugin"]["cmd"]
    return ["python3", "/gateway/gateway_processes.py", json.dumps(command)]


def problems_of(container: "Container") -> list[str]:
    """Check the health, calls through the socket, the users of the processes, and the environment of the runner."""
    print(f"    {container.wait_until_healthy()}", flush=True)
    master = container.run("cat", f"{GATEWAY}/logs/nginx.pid").stdout.strip()
    problems = probe.problems_of(container, f"{GATEWAY}/conf/apisix-{master}.sock")
    processes = pids(container)
    users = {
        line.split()[1] for pids in processes.values() for pid in pids for line in _read(pid, "status").splitlines() if line[:4] == "Uid:"
    }
    names = {pair.split("=")[0] for pair in _read(processes["apisix-runner"][0], "environ").split("\0") if pair}
    print(
        f"    uid {', '.join(sorted(users))}; processes {', '.join(sorted(processes))}; environment {', '.join(sorted(names))}", flush=True
    )
    if users != {"636"} or names != ENVIRON:
        problems.append(f"the processes are not as expected: users {users}, variables {names}")
    return problems


def pids(container: "Container") -> dict[str, list[int]]:
    """Return the pids of the processes in a container by their names, the oldest first."""
    namespace = os.readlink(f"/proc/{container.pid}/ns/pid")
    found: dict[str, list[int]] = {}
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace and " Z " not in _read(pid, "stat"):
                found.setdefault(_read(pid, "comm").strip(), []).append(pid)
        except OSError:
            continue  # it has ended
    return found


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def check_stop(container: "Container") -> list[str]:
    """Check that the runner exits before the gateway kills it. The exit status of the gateway is that of the runner."""
    problems = problems_of(container)
    status, took_s = container.stop(signal.SIGQUIT)
    print(f"    SIGQUIT: status {status} after {took_s:.2f} s", flush=True)
    return problems if status == 0 else [*problems, f"after SIGQUIT, the runner did not exit within a second: status {status}"]


def check_kill(container: "Container") -> list[str]:
    """Kill the gateway, which is not process 1, and check that the runner exits."""
    print(f"    {container.wait_until_healthy()}", flush=True)
    for pid in pids(container)["python3"]:
        os.kill(pid, signal.SIGKILL)
    began_s = time.monotonic()
    while left := pids(container).get("apisix-runner"):
        if time.monotonic() - began_s > ENDS_WITHIN_S:
            return [f"after the gateway was killed, {len(left)} processes of the runner continue to run"]
        time.sleep(0.01)
    print(f"    SIGKILL to the gateway: the runner exited after {time.monotonic() - began_s:.2f} s", flush=True)
    return []
