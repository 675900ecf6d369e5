# SPDX-License-Identifier: Apache-2.0
"""No call is refused or lost when a runner is restarted with a successor. `python -m tests.soak restarts` is the long version."""

from collections import Counter

import pytest

from tests.soak.restarts import restart_under_load


@pytest.mark.parametrize("is_managed", [True, False])
def test_a_restart_costs_no_call(is_managed: bool) -> None:
    """The old runner gets SIGTERM and the new one starts at the same moment, as in a reload of the gateway, while calls arrive."""
    # A busy machine takes longer to start a runner than a gateway waits before it kills the old one.
    environ = {"APISIX_RUNNER_WORKERS_SHUTDOWN_TIMEOUT": "15s"}
    seen = restart_under_load(is_managed=is_managed, rounds=2, rate=200.0, kill_after_s=20.0, environ=environ)

    assert Counter() == seen.failures
    assert seen.killed == 0
    assert "Traceback" not in seen.log
