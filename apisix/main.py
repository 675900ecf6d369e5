#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The command `apisix-runner`, also as `python3 apisix/main.py` from a checkout.

The gateway spawns that with whatever python3 comes first on PATH and next to no environment. So this file has to be
readable for a Python 3.6, and when it is run as a script it hands over to the Python of the checkout's `.venv`.
"""

import os
import sys

USAGE_ERROR = 2  # as click and most commands of a shell have it


def main():  # type: () -> int
    """
    Run the command line.

    Returns: the exit status; 130, as shells have it, after a Ctrl-C that comes before the command can see to it.
    """
    try:
        return _run()
    except KeyboardInterrupt:
        return 130


def _run():  # type: () -> int
    """
    Find the command and run it.

    `start` does not go through click, whose import would stand between the exec and the socket, and `health` does not, which
    is started every few seconds; anything that their short reading of the arguments does not understand, does.

    Returns: the exit status.
    """
    arguments = sys.argv[1:]
    if arguments[:1] == ["start"]:
        from apisix.cli.start import read_arguments, start

        flags = read_arguments(arguments)
        if flags is not None:
            return start(flags)
    elif arguments[:1] == ["health"]:
        from apisix.cli import health

        flags = health.read_arguments(arguments)
        if flags is not None:
            return health.health(flags)
    from apisix.cli.commands import commands

    commands.main(prog_name="apisix-runner")
    return 0


def _hand_over():  # type: () -> None
    """
    Go on in the checkout's `.venv`, unless this is it. With none, go on here if this Python has what it takes.

    Also takes this file's own directory off the path, where `testing` and `plugins` would be found as top-level modules.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    checkout = os.path.dirname(package)
    if sys.path and os.path.abspath(sys.path[0]) == package:
        sys.path[0] = checkout
    else:
        sys.path.insert(0, checkout)
    venv = os.path.join(checkout, ".venv")
    python = os.path.join(venv, "bin", "python")
    # The second half ends the game where a PYTHONHOME keeps that Python from noticing its own environment.
    if os.path.realpath(sys.prefix) == os.path.realpath(venv) or sys.executable == python:
        return
    if os.access(python, os.X_OK):
        arguments = [python, os.path.abspath(__file__)] + sys.argv[1:]  # noqa: RUF005  # an old Python reads this too
        try:
            os.execv(python, arguments)  # noqa: S606  # no shell is wanted
        except OSError as error:
            sys.exit("%s does not start (%s): run `make install` in %s again" % (python, error.strerror, checkout))  # noqa: UP031
    missing = _missing()
    if missing:
        sys.exit("this Python (%s) %s, and there is no %s: run `make install` in %s" % (sys.executable, missing, venv, checkout))  # noqa: UP031


def _missing():  # type: () -> str
    """Say what this Python lacks to run the runner, "" where it lacks nothing."""
    if sys.version_info < (3, 11):  # noqa: UP036  # nobody knows which Python comes first on a gateway's PATH
        return "is " + sys.version.split()[0] + ", older than 3.11"
    from importlib.util import find_spec

    modules = ("click", "greenlet", "msgspec", "multidict", "structlog", "uvloop", "yaml")
    absent = [name for name in modules if find_spec(name) is None]
    return "lacks " + ", ".join(absent) if absent else ""


if __name__ == "__main__":
    _hand_over()
    sys.exit(main())
