#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The command `apisix-runner`, also run as `python3 apisix/main.py` from a checkout.

The gateway starts that script with the first python3 on its PATH and with an almost empty environment. So this file must be valid
Python 3.6, and if it is run as a script, it executes the Python of the checkout's `.venv`.
"""

import os
import sys

USAGE_ERROR = 2  # as click and most shell commands do
BROKEN_PIPE = 141  # as in shells: 128 + SIGPIPE


def main():  # type: () -> int
    """
    Run the command line.

    Returns: the exit status; 130, as in shells, after a Ctrl-C before the command handles it; `BROKEN_PIPE` if whoever read the standard
    output has closed it.
    """
    try:
        return _run()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        if not _discard_closed_output():
            raise
        return BROKEN_PIPE
    except SystemExit as ended:  # see `Commands`
        if not isinstance(ended.__cause__, BrokenPipeError) or not _discard_closed_output():
            raise
        return BROKEN_PIPE


def _discard_closed_output():  # type: () -> bool
    """
    Return whether the reader of the standard output has closed it. If so, what remains in its buffer is discarded, because Python would
    fail to write it when it exits.
    """
    import select

    poll = select.poll()
    poll.register(1, 0)  # errors are always reported
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


def _run():  # type: () -> int
    """
    Find the command and run it.

    `start` and `health` do not import click unless their own argument parsers meet something that they do not handle: `start` must bind
    the socket soon, and `health` is run every few seconds.

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
    Execute the Python of the checkout's `.venv`, unless this is it. If there is none, continue here if this Python is sufficient.

    Also remove this file's directory from `sys.path`, because `testing` and `plugins` would be found there as top-level modules.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    checkout = os.path.dirname(package)
    if sys.path and os.path.abspath(sys.path[0]) == package:
        sys.path[0] = checkout
    else:
        sys.path.insert(0, checkout)
    venv = os.path.join(checkout, ".venv")
    python = os.path.join(venv, "bin", "python")
    # The second condition prevents a loop if PYTHONHOME hides from that Python that it runs in a virtual environment.
    if os.path.realpath(sys.prefix) == os.path.realpath(venv) or sys.executable == python:
        return
    if os.access(python, os.X_OK):
        arguments = [python, os.path.abspath(__file__)] + sys.argv[1:]  # noqa: RUF005  # an old Python must be able to parse this
        try:
            os.execv(python, arguments)  # noqa: S606  # no shell is needed
        except OSError as error:
            sys.exit("%s does not start (%s): run `make install` in %s again" % (python, error.strerror, checkout))  # noqa: UP031
    missing = _missing()
    if missing:
        sys.exit("this Python (%s) %s, and there is no %s: run `make install` in %s" % (sys.executable, missing, venv, checkout))  # noqa: UP031


def _missing():  # type: () -> str
    """Return what this Python lacks to run the runner, "" if it lacks nothing."""
    if sys.version_info < (3, 11):  # noqa: UP036  # the first Python on a gateway's PATH may be any version
        return "is " + sys.version.split()[0] + ", older than 3.11"
    from importlib.util import find_spec

    modules = ("click", "greenlet", "msgspec", "multidict", "structlog", "uvloop", "yaml")
    absent = [name for name in modules if find_spec(name) is None]
    return "lacks " + ", ".join(absent) if absent else ""


if __name__ == "__main__":
    _hand_over()
    sys.exit(main())
