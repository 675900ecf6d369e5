# SPDX-License-Identifier: Apache-2.0
"""plugins/soap_fault.py."""

from typing import Any

import pytest

from apisix.testing import Client, Result

ENVELOPES = {
    "1.1": """<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault>
        <faultcode>s:{code}</faultcode><faultstring>no such order at db7.internal</faultstring></s:Fault></s:Body></s:Envelope>""",
    "1.2": """<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Header/><e:Body><e:Fault><e:Code><e:Value>e:{code}</e:Value>
        </e:Code><e:Reason><e:Text xml:lang="en">no such order at db7.internal</e:Text></e:Reason></e:Fault></e:Body></e:Envelope>""",
}
RESULT = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><order>1</order></s:Body></s:Envelope>'


def respond(client: Client, body: str, content_type: str = "text/xml; charset=utf-8", status: int = 500, **config: Any) -> Result:
    """Send a response of the upstream."""
    return client.respond(status, {"Content-Type": content_type}, body.encode(), plugins=[("soap-fault", config)])


@pytest.mark.parametrize("version", ENVELOPES)
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("Client", 400),
        ("Sender", 400),
        ("Client.Authentication", 401),
        ("Client.Other", 400),
        ("Server", 502),
        ("Receiver", 502),
        ("", 502),
    ],
)
@pytest.mark.parametrize("received", [200, 500])
def test_fault(client: Client, version: str, code: str, status: int, received: int) -> None:
    """The status depends on the code of the fault, and not on the status of the upstream."""
    body = ENVELOPES[version].format(code=code)
    statuses = {"Client": 400, "Sender": 400, "Client.Authentication": 401}
    response = respond(client, body, status=received, statuses=statuses).response

    assert (response.status, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json() == {
        "title": "SOAP fault",
        "status": status,
        "detail": "the upstream has refused the request",
        "code": code,
    }


@pytest.mark.parametrize("version", ENVELOPES)
def test_reason(client: Client, version: str) -> None:
    """The reason is shown if that is configured."""
    body = ENVELOPES[version].format(code="Client")

    assert respond(client, body, show_reason=True).response.json()["detail"] == "no such order at db7.internal"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (RESULT, "text/xml"),
        (RESULT.replace("Envelope", "Other"), "application/soap+xml"),
        ("<Fault><faultcode>Client</faultcode></Fault>", "application/xml"),
        (ENVELOPES["1.1"].replace("{code}", "Client"), "text/plain"),
        ("", "text/xml"),
    ],
)
def test_no_fault(client: Client, body: str, content_type: str) -> None:
    """Responses that are not a fault do not change."""
    response = respond(client, body, content_type).response

    assert (response.status, response.body) == (500, body.encode())


@pytest.mark.parametrize("body", ["<a>", f"<!DOCTYPE a []>{ENVELOPES['1.2']}", "x", "<a>" * 20_000, f"<a>{'x' * 2**18}</a>"])
def test_not_valid(client: Client, body: str) -> None:
    """XML that can't be checked is not sent to the client."""
    response = respond(client, body, status=200).response

    assert (response.status, response.json()["title"]) == (502, "bad response")
