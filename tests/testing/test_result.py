# SPDX-License-Identifier: Apache-2.0
"""What a test looks at."""

from dataclasses import FrozenInstanceError

import pytest
from multidict import CIMultiDict, MultiDict

from apisix.runner.errors import BodyError
from apisix.testing import ClientResponse, Result, UpstreamRequest


def test_text_and_json() -> None:
    """Bodies are read by their charset, and as JSON whatever their type."""
    latin = CIMultiDict({"Content-Type": "text/plain; charset=latin-1"})

    assert "ü" == ClientResponse(200, latin, b"\xfc").text
    assert "ü" == UpstreamRequest("GET", "/", MultiDict(), "", CIMultiDict(), "ü".encode()).text
    assert {"a": 1} == ClientResponse(200, body=b'{"a": 1}').json()
    with pytest.raises(BodyError):
        ClientResponse(200, body=b"{").json()


def test_frozen() -> None:
    """A result can't be changed by mistake, as in an assert with one `=`."""
    with pytest.raises(FrozenInstanceError):
        Result().reply = ClientResponse(200)  # type: ignore[misc]


def test_empty() -> None:
    """What did not happen is None, or empty."""
    result = Result()

    assert (None, None, None, None) == (result.reply, result.upstream, result.response, result.error)
    assert ((), (), CIMultiDict()) == (result.asked, result.effects, result.client_headers)
