# SPDX-License-Identifier: Apache-2.0
"""plugins/near_duplicate.py."""

import pytest

from apisix.testing import Client

PLUGIN = ("near-duplicate", {"texts": ["Buy cheap watches at watches.example"]})


@pytest.mark.parametrize("text", ["Buy cheap watches at watches.example", "Buy cheap w4tches at watches.example!"])
def test_a_known_text_is_refused(client: Client, text: str) -> None:
    """A text that is equal or nearly equal to a known one is refused."""
    assert client.post("/", body=text.encode(), plugins=[PLUGIN]).reply.status == 422


@pytest.mark.parametrize("text", ["", "I bought this watch in spring, and like it."])
def test_another_text_passes(client: Client, text: str) -> None:
    """Other texts pass unchanged."""
    assert not client.post("/", body=text.encode(), plugins=[PLUGIN]).stopped
