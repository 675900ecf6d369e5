# SPDX-License-Identifier: Apache-2.0
"""plugins/model_route.py."""

import pytest

from apisix.testing import ChainRefused, Client

TIERS = {"fast": {"model": "small-8b", "backend": "local"}, "best": {"model": "large-2", "backend": "vendor"}}
PLUGINS = [("model-route", {"tiers": TIERS, "default": "fast"})]
BODY = {"model": "expensive", "messages": [{"role": "user", "content": "Zoë?"}]}


@pytest.mark.parametrize(
    ("headers", "model", "backend"),
    [({}, "small-8b", "local"), ({"x-model-tier": "best"}, "large-2", "vendor"), ({"x-llm-backend": "vendor"}, "small-8b", "local")],
)
def test_tier(client: Client, headers: dict[str, str], model: str, backend: str) -> None:
    """The tier decides about the model and the backend, whatever the client names."""
    result = client.post("/", json=BODY, headers=headers, plugins=PLUGINS)

    assert result.upstream.json() == BODY | {"model": model}
    assert result.upstream.headers["x-llm-backend"] == backend
    assert "x-model-tier" not in result.upstream.headers


def test_unknown_tier(client: Client) -> None:
    """An unknown tier is refused, and the reply names those that exist."""
    reply = client.post("/", json=BODY, headers={"x-model-tier": "huge"}, plugins=PLUGINS).reply

    assert (reply.status, reply.json()["error"]["message"]) == (400, "x-model-tier must be one of: fast, best")


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'"a"', b"\xff"])
def test_no_object(client: Client, body: bytes) -> None:
    """A body in which no model can be set is refused."""
    assert client.post("/", body=body, plugins=PLUGINS).reply.status == 400


def test_bad_configuration(client: Client) -> None:
    """The default must be a tier."""
    with pytest.raises(ChainRefused, match="default must be one of the tiers"):
        client.post("/", json=BODY, plugins=[("model-route", {"tiers": TIERS, "default": "huge"})])
