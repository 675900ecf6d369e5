# SPDX-License-Identifier: Apache-2.0
"""
The processes of a gateway that manages a runner, for the image with both: a master, and its privileged agent, which starts the runner.

`gateway_processes.py COMMAND`, with `ext-plugin.cmd` as JSON, is run inside the image, with the image's own Python and without the package.
The agent does what APISIX does: it starts the command with the variables that the gateway sets, reads its output, and when it exits, sends
SIGTERM and after a second SIGKILL. SIGQUIT, which container runtimes send to this image, ends both processes.

Source: gateway contract, 8; `ext-plugin/init.lua` of APISIX 3.18.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

DIRECTORY = Path("/usr/local/apisix")
KILLED_AFTER_S = 1.0


def agent(command: list[str], socket: Path) -> int:
    """Run the command until SIGQUIT, and return the exit status: 0 if the runner exited in time."""
    environ = {"APISIX_LISTEN_ADDRESS": f"unix:{socket}", "APISIX_CONF_EXPIRE_TIME": "3600"}
    runner = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    signal.signal(signal.SIGQUIT, lambda *_: sys.exit())
    assert runner.stdout is not None
    try:
        while data := runner.stdout.read(3800):
            os.write(2, data)
    except SystemExit:
        pass
    runner.terminate()
    try:
        return runner.wait(KILLED_AFTER_S)
    except subprocess.TimeoutExpired:
        runner.kill()
        runner.wait()
        return 1


def main() -> int:
    """Start the agent, wait for it, and return its exit status."""
    os.chdir(DIRECTORY)
    pid_file = DIRECTORY / "logs" / "nginx.pid"
    socket = DIRECTORY / "conf" / f"apisix-{os.getpid()}.sock"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGQUIT})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGQUIT})
        os._exit(agent(json.loads(sys.argv[1]), socket))
    signal.signal(signal.SIGQUIT, lambda *_: os.kill(child, signal.SIGQUIT))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGQUIT})
    pid_file.write_text(f"{os.getpid()}\n")
    _, status = os.waitpid(child, 0)
    pid_file.unlink()
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
