# SPDX-License-Identifier: Apache-2.0
"""Examine the metrics if they are enabled: if the address is allowed, and which program replies there."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Final

from apisix.cli.diagnosis.result import Results, ok, problem, warning
from apisix.runner.errors import SettingsError
from apisix.runner.metrics.http_end import address_of
from apisix.runner.settings.table import Settings

TIMEOUT_S: Final = 2.0
"""The time limit for the reply, in seconds."""


def examine_metrics(settings: Settings) -> Results:
    """Request the health page, which has the same address as the metrics."""
    try:
        address = address_of(settings)
    except SettingsError as error:
        yield problem("metrics", str(error), "Correct the setting, because the runner does not start with it")
        return
    if address is None:
        return
    host, port = address
    connection = HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read(1000))
        workers, silent = int(health["workers"]), int(health["silent"])
    except OSError as error:
        yield warning(
            "metrics", f"no program replies on {settings.metrics_address}: {error}", "Start the runner, or look for the reason in its log"
        )
    except (HTTPException, ValueError, KeyError, TypeError):
        yield problem("metrics", f"another program replies on {settings.metrics_address}", "Set metrics.address to a free port")
    else:
        if silent < workers:
            yield ok("metrics", f"{settings.metrics_address} reports {workers} workers, of which {silent} do not respond")
        else:
            yield problem(
                "metrics",
                f"{settings.metrics_address} reports {workers} workers, of which {silent} do not respond",
                "Look at the log of the runner",
            )
    finally:
        connection.close()
