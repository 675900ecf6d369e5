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


@pytest.mark.parametrize("name", ["MODEL", "Model"])
def test_name_in_another_case(client: Client, name: str) -> None:
    """Some parsers ignore the case of names, so the client can't name a model in another case either."""
    body = client.post("/", json={"model": "expensive", name: "expensive"}, plugins=PLUGINS).upstream.json()

    assert {name: value for name, value in body.items() if name.lower() == "model"} == {"model": "small-8b"}


@pytest.mark.parametrize("body", [b'{"a": 123456789012345678901234567890}', b'{"a": "\\ud800"}'])
def test_any_values(client: Client, body: bytes) -> None:
    """Numbers and text that few parsers accept are left to the upstream."""
    assert client.post("/", body=body, plugins=PLUGINS).upstream.body.startswith(body[:-1])
