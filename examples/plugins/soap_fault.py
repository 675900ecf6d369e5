# SPDX-License-Identifier: Apache-2.0
"""
Map SOAP faults of an upstream to HTTP statuses, with the problem details of RFC 9457 as JSON (`pip install defusedxml`).

When to use it: if clients that are not SOAP clients call a SOAP service. A fault usually has the status 500, whoever is to blame, and
some services send it with 200. List it under ext-plugin-post-resp, before xml-to-json if you use both. The reason of a fault is text of
the upstream, in which there may be names of hosts or a stack trace, so clients get it only if `show_reason` is set. If an XML
response is too long, has a DTD or can't be parsed, clients get a 502. Responses that are not XML do not change.

Task: Responses
Keywords: SOAP fault, faultcode, faultstring, soap:Client, soap:Server, error mapping, problem details, RFC 9457, RFC 7807, WSDL
"""

from typing import Annotated, Final
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml.ElementTree import fromstring

from apisix import Plugin, Reply, Response

_SOAP_1_1: Final = "{http://schemas.xmlsoap.org/soap/envelope/}"
_SOAP_1_2: Final = "{http://www.w3.org/2003/05/soap-envelope}"
# For each version: the paths of the code and of the reason in a fault.
_PATHS: Final = {
    _SOAP_1_1: ("faultcode", "faultstring"),
    _SOAP_1_2: (f"{_SOAP_1_2}Code/{_SOAP_1_2}Value", f"{_SOAP_1_2}Reason/{_SOAP_1_2}Text"),
}

Status = Annotated[int, msgspec.Meta(ge=400, le=599)]


class SoapFaultConfig(msgspec.Struct, frozen=True):
    """The statuses by fault code, without its prefix. `Client.Authentication` has the status of `Client` if it is not listed."""

    statuses: dict[str, Status] = msgspec.field(default_factory=lambda: {"Client": 400, "Sender": 400})
    default: Status = 502
    show_reason: bool = False
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 2**18


class SoapFault(Plugin[SoapFaultConfig]):
    """Replace responses that contain a SOAP fault."""

    blocking = True  # a long body takes long to parse, so run in threads, where other calls do not have to wait

    def on_response(self, response: Response) -> Reply | None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not (kind in ("text/xml", "application/xml") or kind.endswith("+xml")) or not response.read():
            return None
        if len(response.read()) > self.config.max_bytes:
            return _problem(502, "the upstream's response is too long")
        try:
            found = _fault(fromstring(response.read(), forbid_dtd=True))
        except (ValueError, LookupError, RecursionError, ParseError):
            return _problem(502, "the upstream has sent XML that is not valid")
        if found is None:
            return None
        code, reason = found
        status = self.config.statuses.get(code) or self.config.statuses.get(code.partition(".")[0], self.config.default)
        return _problem(status, reason if reason and self.config.show_reason else "the upstream has refused the request", code=code)


def _fault(envelope: Element) -> tuple[str, str] | None:
    """Return the code and the reason of a fault; None if the document does not contain one."""
    for namespace, (code, reason) in _PATHS.items():
        fault = envelope.find(f"{namespace}Body/{namespace}Fault") if envelope.tag == f"{namespace}Envelope" else None
        if fault is not None:
            return fault.findtext(code, "").strip().rpartition(":")[2], fault.findtext(reason, "").strip()
    return None


def _problem(status: int, detail: str, **fields: str) -> Reply:
    problem = {"title": "SOAP fault" if fields else "bad response", "status": status, "detail": detail, **fields}
    return Reply(status, json=problem, headers={"content-type": "application/problem+json"})
