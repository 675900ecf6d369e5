# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.save`: measure how long it takes until `apisix-runner dev` runs a saved plugin."""

import argparse
import http.client
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOUND_S = 20.0


def free_port() -> int:
    """Return a port of 127.0.0.1 that is not in use now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def greeting(port: int) -> str | None:
    """Return the header that the upstream got, or None if there is no answer or no header."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND_S)
    try:
        connection.request("GET", "/hello")
        found = re.search(rb'"x-hello": "([^"]*)"', connection.getresponse().read())
        return found[1].decode() if found else None
    except OSError:
        return None
    finally:
        connection.close()


def wait_for(port: int, expected: str) -> float:
    """Return how long it took until the upstream got `expected`, in seconds. Raises: SystemExit: it takes too long."""
    began_s = time.monotonic()
    while greeting(port) != expected:
        if time.monotonic() - began_s > BOUND_S:
            raise SystemExit(f"the upstream did not get {expected!r} within {BOUND_S:g} s")
        time.sleep(0.005)
    return time.monotonic() - began_s


def measure(saves: int) -> list[float]:
    """Save a plugin `saves` times under its own gateway, and return how long each took, in seconds."""
    runner = [sys.executable, "-m", "apisix"]
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        subprocess.run([*runner, "new", "hello"], cwd=here, check=True, stdout=subprocess.DEVNULL)
        port, upstream_port = free_port(), free_port()
        routes = here / "apisix.yaml"
        routes.write_text(routes.read_text().replace("127.0.0.1:1980", f"127.0.0.1:{upstream_port}"))
        plugin = here / "plugins" / "hello.py"
        source = plugin.read_text()
        dev = subprocess.Popen(
            [*runner, "dev", "--port", str(port), "--upstream-port", str(upstream_port)], cwd=here, stdout=subprocess.DEVNULL
        )
        try:
            wait_for(port, "hello")
            took_s = []
            for number in range(saves):
                plugin.write_text(source.replace("= self.config.greeting", f'= "{number}"'))
                took_s.append(wait_for(port, str(number)))
            return took_s
        finally:
            dev.terminate()
            dev.wait(BOUND_S)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saves", type=int, default=50)
    took_s = measure(parser.parse_args().saves)
    p50_s, p95_s = statistics.median(took_s), statistics.quantiles(took_s, n=20)[-1]
    print(f"{len(took_s)} saves: p50 {p50_s:.2f} s, p95 {p95_s:.2f} s, longest {max(took_s):.2f} s")


if __name__ == "__main__":
    main()
