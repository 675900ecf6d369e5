# SPDX-License-Identifier: Apache-2.0
"""plugins/xml_to_json.py."""

from typing import Any

import pytest

from apisix.testing import Client, Result

XML = {"content-type": "application/xml"}


def sent(client: Client, body: str | bytes, headers: Any = XML, **config: Any) -> Result:
    """Send a request with a body."""
    return client.post("/", body=body, headers=headers, plugins=[("xml-to-json", config)])


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<a/>", {"a": None}),
        ("<a> 1 </a>", {"a": "1"}),
        ('<a b="1"/>', {"a": {"@b": "1"}}),
        ('<a b="1">2</a>', {"a": {"@b": "1", "#text": "2"}}),
        ("<a><b>1</b><b>2</b><c/></a>", {"a": {"b": ["1", "2"], "c": None}}),
        ("<a><b>1</b></a>", {"a": {"b": "1"}}),
        ("<a><l>1</l></a>", {"a": {"l": ["1"]}}),
        ("<a><l/></a>", {"a": {"l": [None]}}),
        ('<p:a xmlns:p="urn:p" p:b="1"><p:c/></p:a>', {"a": {"@b": "1", "c": None}}),
        ("<a><!-- a comment --><b/><?target?></a>", {"a": {"b": None}}),
        ("<a>&lt;b&gt; &#x20AC;</a>", {"a": "<b> €"}),
        ('<?xml version="1.0" encoding="iso-8859-1"?><a>\xeb</a>'.encode("latin-1"), {"a": "ë"}),
        ('<?xml version="1.0"?><a>\xeb</a>'.encode("utf-16"), {"a": "ë"}),
    ],
)
def test_conversion(client: Client, xml: str | bytes, expected: Any) -> None:
    """The upstream gets JSON."""
    result = sent(client, xml, lists=["l"])

    assert result.upstream.json() == expected
    assert result.upstream.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "xml",
    [
        " ",
        "<a>",
        "{}",
        "<a>text <b/></a>",
        "<a><b/> text</a>",
        '<a xmlns:p="urn:p" b="1" p:b="2"/>',
        '<a xmlns:p="urn:p" b="1" p:b="1"/>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><a/>',
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>',
        '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><a>&y;</a>',
        '<?xml version="1.0" encoding="no-such-encoding"?><a/>',
        '<?xml version="1.0" encoding="utf-7"?><a/>',
        "<a>" * 20_000 + "</a>" * 20_000,
        f"<a>{'x' * 2**18}</a>",
        b"<a>\xff</a>",
    ],
)
def test_refused(client: Client, xml: str | bytes) -> None:
    """XML that can't be converted, or is meant as an attack, is refused."""
    assert sent(client, xml).reply.status == 400


@pytest.mark.parametrize("content_type", ["text/xml", "Application/SOAP+XML; charset=utf-8", " application/xml "])
def test_types(client: Client, content_type: str) -> None:
    """The type of XML is recognized in each form."""
    assert sent(client, "<a/>", {"content-type": content_type}).upstream.json() == {"a": None}


def test_no_body(client: Client) -> None:
    """A request without a body passes."""
    assert not client.get("/", headers=XML, plugins=[("xml-to-json", {})]).stopped


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}, {"content-type": "text/xmlish"}])
def test_other_types(client: Client, headers: dict[str, str]) -> None:
    """Other bodies do not change."""
    assert sent(client, "<a/>", headers).upstream.body == b"<a/>"


def test_response(client: Client) -> None:
    """A response is converted too."""
    headers = {"Content-Type": "text/xml", "ETag": '"1"'}
    result = client.respond(200, headers, b"<users><user><name>Ali</name></user></users>", plugins=[("xml-to-json", {})])

    assert result.response.json() == {"users": {"user": {"name": "Ali"}}}
    assert dict(result.response.headers) == {"content-type": "application/json"}


def test_bad_response(client: Client) -> None:
    """If a response can't be converted, the client does not get it."""
    result = client.respond(200, {"Content-Type": "text/xml"}, b"<!DOCTYPE a []><a/>", plugins=[("xml-to-json", {})])

    assert (result.response.status, "error" in result.response.json()) == (502, True)
