# SPDX-License-Identifier: Apache-2.0
"""Secrets are replaced by digests, everywhere in a record."""

import re
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote_plus

import msgspec
import pytest

from apisix.runner.records.redaction import MAX_OF_BODY, PREFIX, Redactor, digest

SECRET = "correct-horse"  # noqa: S105  # not a real one


@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "Set-Cookie", "x-api-key", "apikey", "password", "access_token", "http_authorization", "mine"]
)
def test_secret_names(name: str) -> None:
    assert SECRET not in Redactor(frozenset({"mine"})).value(name, SECRET)


@pytest.mark.parametrize("name", ["accept", "host", "x-request-id", "uri", "user-agent"])
def test_other_names(name: str) -> None:
    assert Redactor().value(name, SECRET) == SECRET


def test_equal_secrets_have_equal_digests() -> None:
    assert Redactor().value("x-api-key", SECRET) == Redactor().value("password", SECRET) == digest(SECRET)


def test_nothing_is_redacted_if_disabled() -> None:
    redactor = Redactor(enabled=False)

    assert redactor.value("authorization", SECRET) == SECRET
    assert redactor.body(b'{"password": "a"}', "application/json") == b'{"password": "a"}'
    assert redactor.configuration('{"password": "a"}', {}) == '{"password": "a"}'


def test_the_scheme_and_the_names_of_cookies_are_kept() -> None:
    redactor = Redactor()

    assert redactor.value("authorization", f"Bearer {SECRET}") == f"Bearer {digest(SECRET)}"
    assert redactor.value("cookie", f"a={SECRET}; b=2") == f"a={digest(SECRET)}; b={digest('2')}"
    assert redactor.value("set-cookie", f"a={SECRET}; Path=/; HttpOnly") == f"a={digest(SECRET)}; Path=/; HttpOnly"


COOKIES = [
    ("cookie", "a=[correct-horse]; b=[2]"),
    ("Cookie", "a=[correct-horse];b=[2]"),
    ("cookie", 'a="[correct-horse]"; $Path="/"'),
    ("cookie", "[correct-horse]"),
    ("http_cookie", "a=[x=correct-horse];  b=[2] "),
    ("set-cookie", "a=[correct-horse]; Path=/; HttpOnly"),
    ("Set-Cookie", "a=[correct-horse];Path=/;Expires=Wed, 09 Jun 2027 10:18:14 GMT"),
    ("set-cookie", "a=[correct-horse]; expires=Wed, 09 Jun 2027 10:18:14 GMT; Path=/, b=[2]; Secure"),
    ("sent_http_set_cookie", "a=[correct-horse]; Path=/?token=[3]"),
    ("set-cookie2", 'a="[correct-horse]"; Version="1"'),
]


@pytest.mark.parametrize(("name", "marked"), COOKIES)
def test_cookies(name: str, marked: str) -> None:
    text = marked.replace("[", "").replace("]", "")

    assert Redactor().value(name, text) == re.sub(r"\[(.*?)\]", lambda match: digest(match[1]), marked)


def test_a_cookie_is_found_elsewhere_without_its_escapes() -> None:
    redactor = Redactor()
    redactor.value("cookie", 'a=correct%2Bhorse; b="battery-staple"')

    assert redactor.text("correct+horse correct%2Bhorse battery-staple") == " ".join(
        [digest("correct+horse"), digest("correct%2Bhorse"), digest("battery-staple")]
    )


PROTOCOLS = [
    "graphql-transport-ws",
    "graphql-ws, [s3cr3t-value]",
    "chat.v2, mqttv3.1, v12.stomp, ocpp1.6, v4.channel.k8s.io, binary, actioncable-v1-json",
    "bearer, [hunter]",
    "chat,access_token,[hunter],soap",
    "base64url.bearer.authorization.k8s.io.[aHVudGVyMg], v4.channel.k8s.io",
    "[eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl]",
    "[550e8400-e29b-41d4-a716-446655440000], wamp.2.json",
    "[abcdefghijklmnopqrstuvwxyzabcdefghijklmn]",
]


@pytest.mark.parametrize("marked", PROTOCOLS)
@pytest.mark.parametrize("name", ["Sec-WebSocket-Protocol", "http_sec_websocket_protocol"])
def test_protocols_of_web_sockets(name: str, marked: str) -> None:
    """A browser can't send other headers with a WebSocket, so tokens are sent as names of protocols."""
    text = marked.replace("[", "").replace("]", "")

    assert Redactor().value(name, text) == re.sub(r"\[(.*?)\]", lambda match: digest(match[1]), marked)


@pytest.mark.parametrize("name", ["cookie", "set-cookie", "sec-websocket-protocol", "authorization", "x-other"])
@pytest.mark.parametrize("text", ['a="' + " " * 200_000 + "x", " " * 200_000, '"' * 200_000, ", a" * 50_000, "a." * 50_000, "a= " * 50_000])
def test_a_header_cannot_take_long(name: str, text: str) -> None:
    """The time is not measured: with a square of the length, this test does not end in time."""
    assert len(Redactor().value(name, text)) > 10


def test_a_token_in_a_protocol_is_found_elsewhere() -> None:
    redactor = Redactor()
    redactor.value("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.Y29ycmVjdC1ob3JzZQ")

    assert redactor.text("a correct-horse") == f"a {digest(SECRET)}"


def test_parts_of_credentials_are_found_elsewhere() -> None:
    redactor = Redactor()
    value = 'Token token="correct-horse", nonce="x"'

    assert redactor.value("authorization", value) == digest(value)
    assert redactor.text("a correct-horse") == f"a {digest(SECRET)}"


@pytest.mark.parametrize("space", [" ", "   "])
def test_the_spaces_after_the_scheme_are_kept(space: str) -> None:
    """A plugin that shows the header shows the same when the call is replayed."""
    assert Redactor().value("authorization", f"Bearer{space}{SECRET}") == f"Bearer{space}{digest(SECRET)}"


@pytest.mark.parametrize("escaped", ["ab%2bcd/ef%3d", "ab%2Bcd%2Fef%3D", "a%62%2Bcd/ef="])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_uri", "/a?page=1&token={}"),
        ("args", "token={}&page=1"),
        ("query_string", "token={}"),
        ("request", "GET /a?token={} HTTP/1.1"),
    ],
)
def test_arguments_in_variables(name: str, value: str, escaped: str) -> None:
    """A client can escape a value in many ways, so the variable does not contain it as a plugin gets it."""
    assert Redactor().value(name, value.format(escaped)) == value.format(digest("ab+cd/ef="))


@pytest.mark.parametrize(
    ("name", "value"), [("request_uri", "/a?page=%31"), ("args", "a=%62&c"), ("request", "GET / HTTP/1.1"), ("uri", "/?")]
)
def test_variables_without_secrets(name: str, value: str) -> None:
    assert Redactor().value(name, value) == value


URLS = [
    ("referer", "https://x/?access_token={}"),
    ("X-Forwarded-Uri", "/a?a=1&access%5Ftoken={}&b=2"),
    ("x-original-url", "/a?a=1;TOKEN={};b=2"),
    ("location", "https://x/cb#access_token={}&expires_in=3600"),
    ("Link", "<https://x/?token={}>; rel=next"),
    ("origin", "https://user:{}@x/"),
    ("X-Back", "/login?redirect_uri=https%3A%2F%2Fx%2F%3Ftoken%3D{}%26a%3D1"),
    ("sent_http_location", "https://x/?token={}"),
    ("http_referer", "https://x/?token={}"),
    ("redirect_uri", "https://x/?token={}"),
]


@pytest.mark.parametrize(("name", "url"), URLS)
def test_secrets_in_urls(name: str, url: str) -> None:
    """The rest of the URL stays as it is. The name of a user is redacted, but not replaced elsewhere."""
    redactor = Redactor()
    expected = url.format(digest(SECRET)).replace("user", digest("user"))

    assert redactor.value(name, url.format(SECRET)) == expected
    assert redactor.pairs([(name, url.format(SECRET)), ("accept", "*/*")]) == [(name, expected), ("accept", "*/*")]
    assert redactor.known == {SECRET: digest(SECRET)}


@pytest.mark.parametrize(("name", "url"), URLS)
def test_secrets_of_urls_in_bodies(name: str, url: str) -> None:
    text, redacted = url.format(SECRET), url.format(digest(SECRET)).replace("user", digest("user"))

    for form in ('{{"links": [{{"{}": "{}"}}]}}', '<a {}="{}">a</a>', "{}: {}\r\n", '{{"{}": "{}"'):
        body = form.format(name, text).encode()
        found = Redactor().body(body, "")
        assert found.replace(b" ", b"") == form.format(name, redacted).replace(" ", "").encode()


def test_secrets_of_urls_in_forms() -> None:
    body = b"a=1&next=https%3A%2F%2Fx%2F%3Ftoken%3Dcorrect-horse%26b%3D2&c=%3d"

    assert Redactor().body(body, "application/x-www-form-urlencoded") == body.replace(b"correct-horse", digest(SECRET).encode())


def test_values_without_secrets_are_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apisix.runner.records.redaction.MAX_NAMES", 2)
    names = frozenset({"test_values"})
    for value in ("a", "b", "c", "x" * 300):
        assert Redactor(names).value("accept", value) == value

    assert Redactor(names)._secret_names.without_secrets == {"c"}


def test_numbers() -> None:
    body = b'{"password":1234,"max_tokens":256}'

    assert Redactor().body(body, "") == b'{"password":"%b","max_tokens":256}' % digest("1234").encode()


def test_a_password_of_basic_authentication_is_found_elsewhere() -> None:
    redactor = Redactor()
    redactor.value("authorization", "Basic " + b64encode(f"user:{SECRET}".encode()).decode())

    assert redactor.line(msgspec.json.encode(f"wrong password {SECRET}")) == msgspec.json.encode(f"wrong password {digest(SECRET)}")


@pytest.mark.parametrize("form", ["correct-horse/1", "correct-horse%2F1"])
def test_a_secret_is_replaced_wherever_it_occurs(form: str) -> None:
    redactor = Redactor()
    redactor.secret("correct-horse/1")

    assert redactor.line(msgspec.json.encode({"message": f"got {form}!"})) == msgspec.json.encode(
        {"message": f"got {digest('correct-horse/1')}!"}
    )


def test_a_short_secret_does_not_damage_other_text() -> None:
    redactor = Redactor()
    redactor.secret("a")

    assert redactor.line(b'"banana"') == b'"banana"'


def test_fields_of_a_json_body() -> None:
    body = b'{"user": "u", "password": "correct-horse", "nested": [{"api_key": "k", "n": 1}]}'

    redacted = msgspec.json.decode(Redactor().body(body, "application/json"))
    assert redacted == {"user": "u", "password": digest(SECRET), "nested": [{"api_key": digest("k"), "n": 1}]}


@pytest.mark.parametrize("field", ["name", "key", "header"])
def test_names_that_are_values(field: str) -> None:
    body = msgspec.json.encode([{field: "X-Api-Key", "value": SECRET}, {"value": "red", field: "colour"}])

    assert [item["value"] for item in msgspec.json.decode(Redactor().body(body, ""))] == [digest(SECRET), "red"]


def test_fields_of_a_form() -> None:
    body = Redactor().body(b"user=u&password=correct-horse", "application/x-www-form-urlencoded; charset=utf-8")

    assert body == f"user=u&password={digest(SECRET)}".encode()


JSON_TEXTS = {
    "with a mistake": b'{"user": "u", "password": "correct-horse", }',
    "cut off": b'{"user": "u", "password" : "correct-horse", "x": "yyyy',
    "cut off in the secret": b'{"password": "correct-horse',
    "one object per line": b'{"user": "u"}\n{"password": "correct-horse"}\n',
    "with a byte order mark": b'\xef\xbb\xbf{"password":"correct-horse"}',
    "with escapes": b'{"pass\\u0077ord": "correct\\u002dhorse", ',
    "not in UTF-8": b'{"user": "\xff", "password": "correct-horse"}',
}


@pytest.mark.parametrize("body", JSON_TEXTS.values(), ids=JSON_TEXTS)
def test_fields_of_json_that_cannot_be_read_as_a_whole(body: bytes) -> None:
    redacted = Redactor().body(body, "")

    assert redacted == body.replace(b"correct-horse", digest(SECRET).encode()).replace(rb"correct\u002dhorse", digest(SECRET).encode())
    assert redacted != body


@pytest.mark.parametrize("text", [b'{\\"' * 50_000, b'{"' * 50_000, b'{"a" ' * 20_000, b"content-disposition:" * 10_000])
def test_a_body_cannot_take_long(text: bytes) -> None:
    """The time is not measured: with a square of the length, this test does not end in time."""
    assert Redactor().body(text, "multipart/form-data; boundary=b" if text[:1] == b"c" else "") == text


def test_all_values_below_a_secret_name() -> None:
    body = b'{"password": {"value": "correct-horse", "history": ["correct-horse"]}}'

    redacted = msgspec.json.decode(Redactor().body(body, ""))
    assert redacted == {"password": {"value": digest(SECRET), "history": [digest(SECRET)]}}


def test_fields_of_a_multipart_form() -> None:
    parts = ("user", "u"), ("password", "correct-horse"), ("text", "t")
    body = (
        "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\nX: y\r\n\r\n{value}\r\n' for name, value in parts).encode()
        + b"--b--"
    )

    assert Redactor().body(body, "multipart/form-data; boundary=b") == body.replace(b"correct-horse", digest(SECRET).encode())
    cut = body[: body.index(b"-horse") + 6]
    assert Redactor().body(cut, "multipart/form-data; boundary=b") == cut.replace(b"correct-horse", digest(SECRET).encode())


def test_fields_of_unusual_forms() -> None:
    form = "application/x-www-form-urlencoded"
    many = b"&".join([b"a=1"] * 10_001 + [b"password=correct-horse"])

    assert Redactor().body(b"user=\xff&password=correct-horse", form) == b"user=\xff&password=%b" % digest(SECRET).encode()
    assert Redactor().body(many, form) == many.replace(b"correct-horse", digest(SECRET).encode())


@pytest.mark.parametrize("body", [b"", b"text", b"{broken", b'{"a": 1}', b"[" * 100_000])
def test_bodies_without_secrets_stay_as_they_are(body: bytes) -> None:
    assert Redactor().body(body, "") == body


SCHEMAS = {
    "writeOnly": {"properties": {"value": {"writeOnly": True}}},
    "secret": {"properties": {"value": {"type": "string", "secret": True}}},
    "format": {"properties": {"value": {"format": "password"}}},
    "reference": {"$ref": "#/$defs/C", "$defs": {"C": {"properties": {"value": {"anyOf": [{"type": "null"}, {"writeOnly": True}]}}}}},
    "map": {"additionalProperties": {"writeOnly": True}},
    "circle": {"$ref": "#/$defs/C", "$defs": {"C": {"$ref": "#/$defs/C", "properties": {"value": {"secret": True}}}}},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
@pytest.mark.parametrize("value", ['"correct-horse"', '["correct-horse"]', '{"a": "correct-horse"}'])
def test_configurations_by_their_schema(schema: dict[str, object], value: str) -> None:
    redacted = Redactor().configuration(f'{{"value": {value}}}', schema)

    assert SECRET not in redacted
    assert PREFIX in redacted


def test_configurations_by_name() -> None:
    """A legacy plugin has no schema."""
    assert SECRET not in Redactor().configuration('{"secret_key": "correct-horse"}', {})


def test_lists_of_keys() -> None:
    """Otherwise a key in a request, which becomes a digest, could not be compared with those in the configuration."""
    redacted = Redactor().configuration('{"keys": ["correct-horse", "beta"]}', {})

    assert SECRET not in redacted
    assert Redactor().secret("correct-horse") in redacted


def test_items_of_a_list_by_their_schema() -> None:
    schema = {"properties": {"users": {"items": {"properties": {"pin": {"writeOnly": True}}}}}}

    assert SECRET not in Redactor().configuration('{"users": [{"pin": "correct-horse"}]}', schema)


JSON_IN_JSON = {
    "a field": {"payload": msgspec.json.encode({"password": SECRET, "a": 1}).decode()},
    "an object": {"payload": msgspec.json.encode({"password": {"value": [SECRET]}}).decode()},
    "three levels": {"a": msgspec.json.encode({"b": msgspec.json.encode({"token": SECRET}).decode()}).decode()},
    "cut off": {"payload": f'{{"a": 1, "password": "{SECRET}'},
    "a URL": {"payload": msgspec.json.encode(["https://x/?token=correct-horse&a=1"]).decode()},
    "XML": {"payload": "<a><password>correct-horse</password></a>"},
    "a form": {"payload": "a=1&password=correct-horse"},
}


@pytest.mark.parametrize("value", JSON_IN_JSON.values(), ids=JSON_IN_JSON)
def test_texts_in_strings_of_json(value: object) -> None:
    body = msgspec.json.encode(value)

    assert Redactor().body(body, "") == body.replace(SECRET.encode(), digest(SECRET).encode())


def test_json_in_many_strings_of_json() -> None:
    """Deeper than JSON is decoded, fields are found."""
    text = msgspec.json.encode({"token": SECRET}).decode()
    for _ in range(8):
        text = msgspec.json.encode({"a": text}).decode()

    assert SECRET not in Redactor().body(text.encode(), "").decode()


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("value", ['{"password":"correct-horse","a":1}', '[{"token":{"value":"correct-horse"}}]'])
def test_encoded_json_in_an_argument(value: str, times: int) -> None:
    expected = value.replace(SECRET, digest(SECRET))
    for _ in range(times):
        value, expected = quote_plus(value), quote_plus(expected)

    assert Redactor().target(f"/a?b=1&state={value}&c=2") == f"/a?b=1&state={expected}&c=2"
    assert Redactor().body(f"state={value}".encode(), "application/x-www-form-urlencoded") == f"state={expected}".encode()


SOAP = """<?xml version="1.0"?>
<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Header><wsse:Security>
<wsse:Username>u</wsse:Username><wsse:Password Type="http://docs.oasis-open.org/x#PasswordText">correct-horse</wsse:Password>
</wsse:Security></soap:Header><soap:Body><login name="u" password='correct-horse'/></soap:Body></soap:Envelope>"""


def test_a_soap_message() -> None:
    assert Redactor().body(SOAP.encode(), "text/xml").decode() == SOAP.replace(SECRET, digest(SECRET))


@pytest.mark.parametrize(
    ("encoding", "content_type"),
    [
        ("utf-16", ""),
        ("utf-16-le", ""),
        ("utf-16-be", ""),
        ("utf-16-le", "application/json; charset=UTF-16LE"),
        ("utf-16-be", "text/plain; charset=utf-16"),
        ("utf-16-be", "text/plain; charset=utf-16be"),
    ],
)
@pytest.mark.parametrize("text", ['{"password":"correct-horse","a":"\u00fc\U0001f600"}', SOAP, "password=correct-horse&b=\u00fc"])
def test_bodies_in_utf_16(text: str, encoding: str, content_type: str) -> None:
    body = text.encode(encoding)
    mark = body[:2] if encoding == "utf-16" else b""
    codec = "utf-16-le" if encoding == "utf-16" else encoding

    expected = mark + text.replace(SECRET, digest(SECRET)).encode(codec)
    assert Redactor().body(body, content_type) == expected
    assert Redactor().body(body + b"x", content_type) == expected + b"x"


@pytest.mark.parametrize("body", [b"\xff\xfe\x00\xd8\x00", b"\xfe\xff\xdc\x00x\x00", b"\x00", b"\xff\xfe", b"a\x00b\x00\x00\xdc"])
def test_bodies_that_are_not_quite_utf_16(body: bytes) -> None:
    assert Redactor().body(body, "") == body


BINARY = b"\x00\x01\x89PNG"


@pytest.mark.parametrize("form", ["correct-horse/1+2", "correct-horse%2F1%2B2", "correct-horse%2f1%2b2", "correct-horse\\/1+2"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le"])
def test_a_known_secret_in_a_binary_body(form: str, codec: str) -> None:
    redactor = Redactor()
    redactor.value("authorization", "Bearer correct-horse/1+2")

    body = BINARY + form.encode(codec) + BINARY
    assert redactor.body(body, "image/png") == BINARY + digest("correct-horse/1+2").encode(codec) + BINARY


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
def test_a_known_secret_in_base64(before: str) -> None:
    redactor = Redactor()
    redactor.secret("correct-horse?>~")
    for encoded in (b64encode, urlsafe_b64encode):
        text = encoded(f"{before}correct-horse?>~ and more".encode()).decode()
        shown = redactor.text(f"got {text}")
        assert digest("correct-horse?>~") in shown
        assert len(shown) - len(digest("")) < len(text)


def test_a_known_secret_does_not_change_the_structure_of_a_record() -> None:
    """A client can send any secret, such as the name of a field or a number of a record."""
    redactor = Redactor()
    for secret in ("request", "123456", "rewrite", "redacted", "dacted-"):
        redactor.secret(secret)
    line = b'{"type":"rewrite","request":{"at":0.123456},"outcome":"rewrite","text":"my request 123456","%s":1}' % digest("x").encode()

    shown = msgspec.json.decode(redactor.line(line))
    assert shown == {
        "type": "rewrite",
        "request": {"at": 0.123456},
        "outcome": "rewrite",
        "text": f"my {digest('request')} {digest('123456')}",
        digest("x"): 1,
    }


def test_a_body_with_very_many_secrets() -> None:
    """They are all redacted, but only the first ones are replaced elsewhere, because each takes a search."""
    redactor = Redactor()
    body = msgspec.json.encode([{"password": f"correct-horse-{number}"} for number in range(2_000)])

    assert b"correct-horse" not in redactor.body(body, "")
    assert redactor.text("correct-horse-7") == digest("correct-horse-7")
    assert len(redactor.known) == MAX_OF_BODY


def test_secrets_that_are_found_after_a_body() -> None:
    redactor = Redactor()
    redactor.secret("before")
    redactor.body(b'{"password": "within"}', "")

    assert not redactor.has_learned_since_body()
    redactor.secret("after it")
    assert redactor.has_learned_since_body()


HOSTILE = {
    "different secrets": b",".join(b'{"password":"secret-%d"}' % number for number in range(40_000)),
    "encoded JSON": b"a=%7B" * 200_000,
    "encoded JSON in JSON": b"=%7B%22" * 150_000,
    "elements": b"<password>a</password>" * 45_000,
    "escapes": b"\\" * 2**20,
    "UTF-16": b"\xff\xfe" + b"=\0" * 2**19,
    "zeros": bytes(2**20),
    "parts": b'content-disposition: form-data; name="token"\r\n\r\n' * 20_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_of_a_mebibyte(body: bytes) -> None:
    """The time is not measured. If it grew with the square of the length, this test would take hours."""
    redactor = Redactor()

    assert len(redactor.body(b"[" + body + b"]", "")) > 0
    assert len(redactor.body(body, "multipart/form-data; boundary=b")) > 0
    assert len(redactor.line(msgspec.json.encode(body.decode("latin-1")))) > 0
