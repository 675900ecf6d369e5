# SPDX-License-Identifier: Apache-2.0
"""nginx's own error pages, byte for byte."""

# The text of title and heading. A status that is missing here has no page: the body is empty.
# Source: observed on APISIX 3.18 for 302, 403, 500 and 503; nginx 1.27 for the rest.
TITLES = {
    301: "301 Moved Permanently",
    302: "302 Found",
    303: "303 See Other",
    307: "307 Temporary Redirect",
    308: "308 Permanent Redirect",
    400: "400 Bad Request",
    401: "401 Authorization Required",
    402: "402 Payment Required",
    403: "403 Forbidden",
    404: "404 Not Found",
    405: "405 Not Allowed",
    406: "406 Not Acceptable",
    408: "408 Request Time-out",
    409: "409 Conflict",
    410: "410 Gone",
    411: "411 Length Required",
    412: "412 Precondition Failed",
    413: "413 Request Entity Too Large",
    414: "414 Request-URI Too Large",
    415: "415 Unsupported Media Type",
    416: "416 Requested Range Not Satisfiable",
    421: "421 Misdirected Request",
    429: "429 Too Many Requests",
    500: "500 Internal Server Error",
    501: "501 Not Implemented",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
    505: "505 HTTP Version Not Supported",
    507: "507 Insufficient Storage",
}

# The content types to which nginx adds `; charset=utf-8`. Source: nginx, charset_types; observed for text/html and text/plain.
_CHARSET_TYPES = frozenset(
    {"text/html", "text/xml", "text/plain", "text/vnd.wap.wml", "application/javascript", "application/rss+xml"},
)

DEFAULT_TYPE = "text/plain"


BAD_REQUESTS = {
    494: "Request Header Or Cookie Too Large",
    495: "The SSL certificate error",
    496: "No required SSL certificate was sent",
    497: "The plain HTTP request was sent to HTTPS port",
}
"""nginx's internal statuses that it sends as 400, with their explanation. Source: nginx, ngx_http_special_response.c; observed."""

CLOSES_CONNECTION = frozenset({*range(100, 200), 444, 499})
"""Statuses after which nginx closes the connection without an answer (observed), unless it is the status of an upstream."""


def error_page(status: int) -> bytes:
    """Return nginx's page for a status of 300 or more, b"" if it has none."""
    if status in BAD_REQUESTS:
        return _page(f"400 {BAD_REQUESTS[status]}", TITLES[400], f"<center>{BAD_REQUESTS[status]}</center>\r\n")
    title = TITLES.get(status)
    return b"" if title is None else _page(title, title)


def _page(title: str, heading: str, explanation: str = "") -> bytes:
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n{explanation}"
        "<hr><center>openresty</center>\r\n"
        '<p><em>Powered by <a href="https://apisix.apache.org/">APISIX</a>.</em></p></body>\r\n</html>\r\n'
    ).encode()


def with_charset(content_type: str, status: int) -> str:
    """Return a content type after nginx's charset filter, which does not change responses with status 301 or 302."""
    if status in (301, 302) or content_type.lower() not in _CHARSET_TYPES:
        return content_type
    return f"{content_type}; charset=utf-8"
