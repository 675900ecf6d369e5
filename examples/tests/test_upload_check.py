# SPDX-License-Identifier: Apache-2.0
"""plugins/upload_check.py."""

import httpx
import pytest

from apisix.testing import Client, Result

PNG = b"\x89PNG\r\n\x1a\n" + bytes(10)
PLUGINS = [("upload-check", {"fields": ["photo"], "kinds": ["png", "pdf", "webp"], "max_files": 2, "max_file_bytes": 100})]
GOOD = ("me.png", PNG, "image/png")


def upload(client: Client, *files: tuple[str, bytes, str], field: str = "photo") -> Result:
    """Send a form with files, as httpx encodes it."""
    form = httpx.Request("POST", "http://a/", data={"title": "x"}, files=[(field, file) for file in files] or [("photo", GOOD)])
    return client.post("/", body=form.read(), headers={"content-type": form.headers["content-type"]}, plugins=PLUGINS)


def test_allowed(client: Client) -> None:
    """A form with files that are allowed reaches the upstream unchanged."""
    result = upload(client, GOOD, ("Zoë 1.PDF", b"%PDF-1.7", "application/pdf"))
    other = upload(client, ("me.webp", b"RIFF\x04\x00\x00\x00WEBP", "image/webp"))

    assert PNG in result.upstream.body
    assert not other.stopped


@pytest.mark.parametrize(
    "file",
    [
        ("me.png", b"<script>", "image/png"),
        ("me.png", PNG, "text/html"),
        ("me.html", PNG, "image/png"),
        ("me.png.exe", PNG, "image/png"),
        ("me.pdf", PNG, "image/png"),
        ("me.jpg", b"\xff\xd8\xff", "image/jpeg"),
        ("me.webp", b"RIFF\x04\x00\x00\x00WAVE", "image/webp"),
        ("../me.png", PNG, "image/png"),
        ("a:me.png", PNG, "image/png"),
        (".png", PNG, "image/png"),
        ("x" * 101 + ".png", PNG, "image/png"),
    ],
)
def test_files_that_are_not_allowed(client: Client, file: tuple[str, bytes, str]) -> None:
    """The content, the content-type and the name must be those of one allowed kind."""
    assert upload(client, GOOD, file).reply.status == 415


def test_limits(client: Client) -> None:
    """The number of files and the size of each are limited."""
    assert upload(client, GOOD, GOOD, GOOD).reply.status == 413
    assert upload(client, ("me.png", PNG + bytes(100), "image/png")).reply.status == 413


def test_other_field(client: Client) -> None:
    """A file in another field is refused."""
    assert upload(client, GOOD, field="icon").reply.status == 415


@pytest.mark.parametrize("types", [[], ["text/plain"], ["application/x-www-form-urlencoded"], ["multipart/form-data; boundary=B", "a/b"]])
def test_other_bodies(client: Client, types: list[str]) -> None:
    """A body that is not multipart/form-data is refused, because it is not checked."""
    body = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--B--'
    headers = [("content-type", value) for value in types]

    assert client.post("/", body=body, headers=headers, plugins=PLUGINS).reply.status == 415


def test_no_file_selected(client: Client) -> None:
    """A browser sends an empty file for a field in which no file was selected."""
    part = b'--B\r\nContent-Disposition: form-data; name="photo"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=B"}

    assert not client.post("/", body=part + b"\r\n--B--", headers=headers, plugins=PLUGINS).stopped
    assert client.post("/", body=part + b"x\r\n--B--", headers=headers, plugins=PLUGINS).stopped


@pytest.mark.parametrize("disposition", ["name=photo; filename*=utf-8''x.exe", 'name="a\\"; filename="x.exe"', "name=a; name=photo"])
def test_hidden_files(client: Client, disposition: str) -> None:
    """A file that the upstream could see, although the runner does not, is refused."""
    body = f"--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\nx\r\n--B--".encode()
    reply = client.post("/", body=body, headers={"content-type": "multipart/form-data; boundary=B"}, plugins=PLUGINS).reply

    assert reply.status == 400
