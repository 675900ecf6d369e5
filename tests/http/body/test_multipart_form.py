# SPDX-License-Identifier: Apache-2.0
"""Tests of forms with files: each part is a field or a file, or BodyError is raised."""

import httpx
import pytest

from apisix.runner.errors import BodyError
from apisix.runner.http.body.multipart_form import MAX_PART_HEADER_BYTES, MAX_PART_HEADERS, MAX_PARTS, FormFile
from apisix.runner.http.body.parsing import MAX_TEXT_BYTES, body_files, body_form

TYPE = "multipart/form-data; boundary=B"


def part(disposition: str, content: bytes = b"x", *headers: str) -> bytes:
    """Return a part. `disposition` follows `form-data` in its header."""
    lines = (f"Content-Disposition: form-data{disposition}", *headers)
    return b"--B\r\n" + "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """Return the body of a form with these parts."""
    return b"".join(parts) + b"--B--\r\n"


def test_fields_and_files() -> None:
    """Names can repeat, and fields and files are separate."""
    body = form(
        part('; name="a"', b"1"),
        part('; name="a"', b""),
        part("; name=b", "ü\r\n--".encode()),
        part('; name="f"; filename="ü.png"', b"\x00\r\n--b\xff", "Content-Type: Image/PNG; x=y"),
        part('; filename=""; name="f"', b"", "Content-Type: application/octet-stream"),
    )

    assert list(body_form(body, TYPE).items()) == [("a", "1"), ("a", ""), ("b", "ü\r\n--")]
    assert list(body_files(body, TYPE).items()) == [
        ("f", FormFile("ü.png", "image/png", b"\x00\r\n--b\xff")),
        ("f", FormFile("", "application/octet-stream", b"")),
    ]


def test_form_of_a_client() -> None:
    """A form that httpx encodes is read, with names that contain quotation marks and line breaks."""
    request = httpx.Request("POST", "http://a/", data={'a"b\n': "1"}, files={"f": ('x"y.txt', b"text", "text/plain")})
    body, content_type = request.read(), request.headers["content-type"]

    assert dict(body_form(body, content_type)) == {'a"b\n': "1"}
    assert dict(body_files(body, content_type)) == {"f": FormFile('x"y.txt', "text/plain", b"text")}


@pytest.mark.parametrize("headers", [[], ["Content-Transfer-Encoding: 8bit"], ["Content-Length: 1"], ["X-Other: 1"]])
def test_other_headers(headers: list[str]) -> None:
    """Headers that do not change the content are accepted."""
    assert dict(body_form(form(part('; name="a"', b"1", *headers)), TYPE)) == {"a": "1"}


def test_charsets() -> None:
    """A part can name its charset. Otherwise, bytes that are not UTF-8 become surrogates, as in other forms."""
    body = form(part('; name="a"', b"\xff"), part('; name="b"', b"\xfc", "Content-Type: text/plain; charset=latin1"))

    assert dict(body_form(body, TYPE)) == {"a": "\udcff", "b": "ü"}
    with pytest.raises(BodyError, match="klingon"):
        body_form(form(part('; name="a"', b"x", "Content-Type: text/plain; charset=klingon")), TYPE)


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=B", 'Multipart/Form-Data ; charset=utf-8; Boundary="B"'])
def test_boundary(content_type: str) -> None:
    """The boundary can be quoted, and can follow other parameters."""
    assert dict(body_form(form(part("; name=a")), content_type)) == {"a": "x"}


@pytest.mark.parametrize(
    "parameters",
    ["", "; boundary=", '; boundary=""', "; boundary=B; boundary=C", "; boundary=B; boundary*=C", f"; boundary={'B' * 71}", "; boundary=ü"],
)
def test_no_boundary(parameters: str) -> None:
    """The content-type must have one valid boundary."""
    with pytest.raises(BodyError, match="must have one boundary"):
        body_files(form(part("; name=a")), "multipart/form-data" + parameters)


@pytest.mark.parametrize(
    "disposition",
    [
        "",
        "; filename=x",
        "; name=a; name=b",
        '; name="a"; filename="x.txt"; filename="x.exe"',
        "; name=a; filename*=utf-8''x.exe",
        '; name="a"; filename="x.txt"; filename*=utf-8\'\'x.exe',
        r'; name="a\"; filename="x.exe"',
        r'; name="a"; filename="x\".exe"',
        '; name="a',
        "; name=a b; filename=c",
        "; name=a\\; filename=x",
        "; name=",
        ', name="a"',
    ],
)
def test_ambiguous_names(disposition: str) -> None:
    """A part whose name, or whether it is a file, depends on the parser is refused."""
    with pytest.raises(BodyError):
        body_files(form(part(disposition)), TYPE)


@pytest.mark.parametrize(
    "headers",
    [
        ['Content-Disposition: form-data; name="b"'],
        ["Content-Type: text/plain", "content-type: text/html"],
        ["Content-Transfer-Encoding: base64"],
        ["Content-Transfer-Encoding: 8bit", "Content-Transfer-Encoding: quoted-printable"],
        ["Content-Length: 2"],
        ["no header"],
        ["X-A: 1\nContent-Disposition: form-data; name=a; filename=x"],
        ["X-A: 1\rContent-Disposition: form-data; name=a; filename=x"],
        ["X-A: \0"],
        ["\udcff: 1"],
    ],
)
def test_ambiguous_headers(headers: list[str]) -> None:
    """A part whose content or type depends on the parser is refused."""
    with pytest.raises(BodyError):
        body_form(form(part('; name="a"', b"x", *headers)), TYPE)


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"--B",
        b"--B\r\n",
        b"--C--\r\n",
        b"--B\r\n\r\nx\r\n--B--",
        b"--B\nContent-Disposition: form-data; name=a\n\nx\n--B--",
        part("; name=a"),
        part("; name=a") + b"--B-",
        part("; name=a") + b"--Bx\r\n--B--",
        form(part("; name=a")).replace(b"form-data", b"attachment"),
    ],
)
def test_no_form(body: bytes) -> None:
    """A body that ends too early, or that has no valid parts, is refused."""
    for convert in (body_form, body_files):
        with pytest.raises(BodyError):
            convert(body, TYPE)


def test_limits() -> None:
    """The numbers of parts and of their headers, and the length of headers, are limited."""
    assert len(body_form(form(*[part("; name=a")] * MAX_PARTS), TYPE)) == MAX_PARTS
    for body in (
        form(*[part("; name=a")] * (MAX_PARTS + 1)),
        form(part("; name=a", b"", *["X-A: 1"] * MAX_PART_HEADERS)),
        form(part(f"; name={'a' * MAX_PART_HEADER_BYTES}")),
        b"--B\r\n" + b"a" * 2**20,
        bytes(MAX_TEXT_BYTES + 1),
    ):
        with pytest.raises(BodyError):
            body_files(body, TYPE)


@pytest.mark.parametrize(
    "content",
    [b"\r" * 2**20, b"\r\n--" * 2**18, b"\r\n--b" * 2**18, b"\r\n-" * 2**18],
)
def test_content_that_resembles_boundaries(content: bytes) -> None:
    """Content that resembles a boundary again and again is part of the file, and takes no quadratic time."""
    body = form(part("; name=a; filename=x", content))

    assert body_files(body, TYPE)["a"].data == content


@pytest.mark.parametrize(
    "options", ['; a="' * 800, "; name=" * 500, '; name="\\' * 400, ";" * 4000, '; filename="' + "\\" * 4000, "; a" + " " * 4000]
)
def test_options_that_do_not_end(options: str) -> None:
    """A header that regular expressions could read in exponentially many ways is refused at once."""
    for header in (f"Content-Disposition: form-data{options}", f"Content-Type: text/plain{options}"):
        with pytest.raises(BodyError):
            body_files(form(part('; name="a', b"x", header)), TYPE)


def test_another_type() -> None:
    """A form without files has none, and a body of another type is refused."""
    assert list(body_files(b"a=1", "application/x-www-form-urlencoded").items()) == []
    assert list(body_files(b"", TYPE).items()) == []
    with pytest.raises(BodyError, match=r"files\(\) accepts .* and the body is text/csv"):
        body_files(b"x", "text/csv")


def test_representation() -> None:
    """The content of a file is not part of its representation, which can end up in a log."""
    file = FormFile("a.txt", "text/plain", b"secret")

    assert (repr(file), len(file)) == ("FormFile(filename='a.txt', content_type='text/plain')", 6)
