# SPDX-License-Identifier: Apache-2.0
"""The metrics, where they are wanted: whether the address may be used, and who answers there."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Final

from apisix.cli.diagnosis.finding import Findings, ok, problem, warning
from apisix.runner.errors import SettingsError
from apisix.runner.metrics.http_end import address_of
from apisix.runner.settings.table import Settings

PATIENCE_S: Final = 2.0


def look_at_metrics(settings: Settings) -> Findings:
    """Ask for the health that is served beside the metrics."""
    try:
        address = address_of(settings)
    except SettingsError as error:
        yield problem("metrics", str(error), "The runner does not start with that")
        return
    if address is None:
        return
    host, port = address
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/health")
        told = json.loads(connection.getresponse().read(1000))
        workers, silent = int(told["workers"]), int(told["silent"])
    except OSError as error:
        yield warning("metrics", f"nobody answers on {settings.metrics_address}: {error}", "Start the runner, or look for it in its log")
    except (HTTPException, ValueError, KeyError, TypeError):
        yield problem("metrics", f"another program answers on {settings.metrics_address}", "Set metrics.address to a free port")
    else:
        if silent < workers:
            yield ok("metrics", f"{settings.metrics_address} tells of {workers} workers, {silent} of them silent")
        else:
            yield problem("metrics", f"{settings.metrics_address} tells of {workers} workers, {silent} of them silent", "Look at the log")
    finally:
        connection.close()
