# SPDX-License-Identifier: Apache-2.0
"""The check that spans can be exported, if packages are missing."""

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.tracing import provider
from apisix.runner.tracing.provider import check_tracing


def test_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the SDK is missing, the error contains the command that installs the extra."""
    monkeypatch.setattr(provider, "find_spec", lambda name: None)

    with pytest.raises(SettingsError, match=r"pip install 'apisix-python-plugin-runner\[tracing\]'"):
        check_tracing()


@pytest.mark.parametrize(("protocol", "extra"), [("http/protobuf", "tracing"), ("grpc", "tracing-grpc")])
def test_without_the_exporter(monkeypatch: pytest.MonkeyPatch, protocol: str, extra: str) -> None:
    """If only the exporter of the protocol is missing, the error contains the command that installs its extra."""
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", raising=False)
    monkeypatch.setattr(provider, "entry_points", lambda **_: [])

    with pytest.raises(SettingsError, match=rf"pip install 'apisix-python-plugin-runner\[{extra}\]'"):
        check_tracing()
