# SPDX-License-Identifier: Apache-2.0
"""
Convert XML bodies to JSON (`pip install defusedxml`).

When to use it: under ext-plugin-pre-req, if clients send XML to an upstream that reads JSON; under ext-plugin-post-resp, if an old
upstream sends XML to clients that read JSON. An attribute `a` becomes "@a", and the text beside it "#text". Elements with the same
name become a list, and those in `lists` always do. Values are text, and prefixes of namespaces are lost. XML with a DTD, or with
text between elements, is refused: a request with a 400, a response with a 502. Bodies of other types do not change.

Task: Bodies
Keywords: XML to JSON, convert XML, transform, SOAP, legacy API, defusedxml, XXE, billion laughs, xmltodict
"""

import json
from typing import Annotated, Any
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml.ElementTree import fromstring

from apisix import Plugin, Reply, Request, Response


class XmlToJsonConfig(msgspec.Struct, frozen=True):
    """The names of elements that are lists even if there is one of them, and the longest body."""

    lists: frozenset[str] = frozenset()
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 2**18


class XmlToJson(Plugin[XmlToJsonConfig]):
    """Convert XML bodies of requests and responses to JSON."""

    blocking = True  # a long body takes long to parse, so run in threads, where other calls do not have to wait

    def on_request(self, request: Request) -> Reply | None:
        return self._convert(request, Reply(400, json={"error": "the body must be XML without a DTD, and not too long"}))

    def on_response(self, response: Response) -> Reply | None:
        return self._convert(response, Reply(502, json={"error": "the upstream has sent XML that can't be converted"}))

    def _convert(self, message: Request | Response, refusal: Reply) -> Reply | None:
        kinds = [text.partition(";")[0].strip().lower() for text in message.headers.getall("content-type", [])]
        if not any(kind in ("application/xml", "text/xml") or kind.endswith("+xml") for kind in kinds) or not message.read():
            return None
        try:
            if len(message.read()) > self.config.max_bytes:
                raise ValueError("the body is too long")
            root = fromstring(message.read(), forbid_dtd=True)  # in the encoding that the XML declares; the default is UTF-8
            message.body = json.dumps({_name(root.tag): self._value(root)}).encode()
        except (ValueError, LookupError, RecursionError, ParseError):
            return refusal
        message.headers["content-type"] = "application/json"
        message.headers.discard("etag")  # it belongs to the original body
        return None

    def _value(self, element: Element) -> Any:
        texts = [(element.text or "").strip(), *((child.tail or "").strip() for child in element)]
        if not len(element) and not element.attrib:
            return texts[0] or None
        if any(texts[1:]) or (len(element) and texts[0]):
            raise ValueError("text between elements")
        fields: dict[str, Any] = {"@" + _name(name): value for name, value in element.attrib.items()}
        if len(fields) < len(element.attrib):
            raise ValueError("attributes with the same name in different namespaces")
        children: dict[str, list[Any]] = {}
        for child in element:
            children.setdefault(_name(child.tag), []).append(self._value(child))
        for name, values in children.items():
            fields[name] = values if len(values) > 1 or name in self.config.lists else values[0]
        return fields | ({"#text": texts[0]} if texts[0] else {})


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]  # {http://schemas.xmlsoap.org/soap/envelope/}Body is Body
