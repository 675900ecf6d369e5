# SPDX-License-Identifier: Apache-2.0
"""plugins/canary.py."""

import random

import pytest

from apisix.testing import ChainRefused, Client


def test_new_clients(client: Client) -> None:
    """The percentage of new clients gets the canary, and each of them a cookie with its variant."""
    random.seed(1)
    results = [client.get("/", plugins=[("canary", {"percentage": 30})]) for _ in range(500)]
    variants = [result.upstream.headers["x-variant"] for result in results]

    assert 100 < variants.count("canary") < 200
    assert variants.count("canary") + variants.count("stable") == 500
    for result, variant in zip(results, variants, strict=True):
        assert result.client_headers["set-cookie"].startswith(f"variant={variant}; Path=/; Max-Age=604800; ")


@pytest.mark.parametrize("variant", ["canary", "stable"])
def test_known_clients(client: Client, variant: str) -> None:
    """A client with a cookie keeps its variant, and no cookie is set."""
    for _ in range(20):
        headers = {"cookie": f"a=1; variant={variant}", "x-variant": "root"}
        result = client.get("/", headers=headers, plugins=[("canary", {"percentage": 50})])
        assert (result.upstream.headers["x-variant"], dict(result.client_headers)) == (variant, {})


@pytest.mark.parametrize(("percentage", "variant"), [(0, "stable"), (100, "canary")])
@pytest.mark.parametrize("cookie", ["", "variant=canary", "variant=stable", "variant=x", "variant=\udcff"])
def test_end_of_the_test(client: Client, percentage: int, variant: str, cookie: str) -> None:
    """With 0 and 100 percent, all clients get the same variant, whatever their cookie is."""
    result = client.get("/", headers={"cookie": cookie}, plugins=[("canary", {"percentage": percentage})])

    assert result.upstream.headers["x-variant"] == variant
    assert ("set-cookie" in result.client_headers) == (cookie != f"variant={variant}")


@pytest.mark.parametrize("config", [{"percentage": 101}, {"percentage": -1}, {"percentage": 1, "cookie": "a; b"}])
def test_bad_configuration(client: Client, config: dict[str, object]) -> None:
    """A percentage or the name of a cookie that is not valid refuses the route."""
    with pytest.raises(ChainRefused):
        client.get("/", plugins=[("canary", config)])
