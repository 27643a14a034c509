"""Requests and answers as records."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.errors import BadInput, ResponseInvalid
from go_services_core.http import ClientCertificate, HttpRequest, HttpResponse, InboundRequest, check_header
from go_services_core.secret import SecretStr

REQUEST = HttpRequest("POST", "https://api.example/a?b=1", (("X-A", "1"), ("x-a", "2"), ("Y", "3")), b"body", 3.0, 100)


@pytest.mark.parametrize("record", [REQUEST, HttpResponse(200), InboundRequest("POST", "/", (), b"")])
def test_records_are_frozen(record: Any) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        record.headers = ()


@pytest.mark.parametrize(
    "record", [REQUEST, HttpResponse(200, REQUEST.headers), InboundRequest("POST", "/", REQUEST.headers, b"")]
)
def test_a_header_is_found_whatever_its_case_and_the_first_counts(record: Any) -> None:
    assert record.header("X-A") == record.header("x-A") == "1"
    assert record.header("y") == "3"
    assert record.header("z") is None


def test_with_header_replaces_every_header_of_that_name_and_nothing_else() -> None:
    changed = REQUEST.with_header("X-a", "new")
    assert changed == attrs.evolve(REQUEST, headers=(("Y", "3"), ("X-a", "new")))
    assert REQUEST.headers == (("X-A", "1"), ("x-a", "2"), ("Y", "3"))


def test_with_url_changes_the_url_alone() -> None:
    assert REQUEST.with_url("https://b.example") == attrs.evolve(REQUEST, url="https://b.example")


@pytest.mark.parametrize(
    "name", ["", "X Y", "X:", "X\r\nY", "X\0", "\x7fX", "Ä", "X(Y)", "X/Y", "X\tY", " X", "X\n", '"X"']
)
def test_a_header_name_that_is_no_token_is_refused(name: str) -> None:  # RFC 9110 §5.6.2
    with pytest.raises(BadInput):
        check_header(name, "value")


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\n", "\r", "\0", "\ud800"])
def test_a_header_value_that_would_end_the_header_is_refused_and_not_repeated(value: str) -> None:  # RFC 9110 §5.5
    with pytest.raises(BadInput) as caught:
        REQUEST.with_header("X-Secret", "s3cret" + value)
    assert caught.value.field == "X-Secret"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["X-A", "x!#$%&'*+-.^_`|~9", "a"])
@pytest.mark.parametrize("value", ["", " a\tb ", "ä€", "a" * 10_000, "\x1b"])
def test_other_headers_are_taken(name: str, value: str) -> None:
    check_header(name, value)


@given(fields=st.lists(st.tuples(st.text(), st.text())))
def test_a_form_is_read_back(fields: list[tuple[str, str]]) -> None:
    request = HttpRequest.form("https://id.example/token", fields, headers=(("X", "1"),))
    assert isinstance(request.body, bytes)
    assert parse_qsl(request.body.decode("ascii"), keep_blank_values=True) == fields
    assert request.method == "POST"
    assert request.header("Content-Type") == "application/x-www-form-urlencoded"
    assert request.header("Accept") == "application/json"
    assert request.headers[-1] == ("X", "1")
    assert HttpRequest.form(request.url, dict(fields)).method == "POST"


def test_a_form_of_what_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(BadInput):
        HttpRequest.form("https://id.example/token", {"code": "\ud800"})


def test_a_json_request_has_a_compact_body() -> None:
    request = HttpRequest.json("PUT", "https://api.example", {"a": [1, "ä"]}, headers=(("X", "1"),))
    assert request.body == b'{"a":[1,"\\u00e4"]}'
    assert (request.method, request.header("content-type")) == ("PUT", "application/json")
    assert request.headers[-1] == ("X", "1")


@pytest.mark.parametrize(
    ("header", "kind"),
    [(None, ""), ("", ""), ("text/html", "text/html"), (" Application/JSON ; charset=utf-8", "application/json")],
)
def test_content_type_is_the_media_type_alone(header: str | None, kind: str) -> None:
    assert HttpResponse(200, (("content-TYPE", header),) if header is not None else ()).content_type == kind


@pytest.mark.parametrize("body", [b"", b"<html>s3cret</html>", b"\xff\xfe", b"{", b"[" * 200_000, b"1" * 10_000])
def test_an_answer_that_is_not_json_is_typed_and_not_repeated(body: bytes) -> None:
    with pytest.raises(ResponseInvalid) as caught:
        HttpResponse(200, (("Content-Type", "text/html"),), body).json()
    assert "text/html" in str(caught.value)
    assert str(len(body)) in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.example/a/b", "https://api.example/a/b"),
        ("https://api.example/a?key=s3cret#s3cret", "https://api.example/a"),
        ("https://api.example/a#s3cret?x", "https://api.example/a"),
        ("https://me:s3cret@api.example/a", "https://api.example/a"),
        ("https://s3cret@s3cret@api.example", "https://api.example"),
        ("https://api.example/@me", "https://api.example/@me"),
        ("https://api.example?next=//s3cret@x", "https://api.example"),
        ("https://[broken?s3cret\ns3cret", "https://[broken"),
    ],
)
def test_a_request_prints_neither_query_nor_user_nor_headers_nor_body(url: str, shown: str) -> None:  # P40, P41
    request = HttpRequest("GET", url, (("Authorization", "Bearer s3cret"),), b"s3cret")
    assert repr(request) == f"<HttpRequest GET {shown}>"


def test_an_answer_prints_its_status_alone() -> None:
    answer = HttpResponse(200, (("Set-Cookie", "s3cret"),), b"s3cret", "https://api.example?key=s3cret")
    assert repr(answer) == "HttpResponse(status=200)"


def test_a_delivery_prints_neither_query_nor_headers_nor_body() -> None:
    request = InboundRequest("POST", "/hooks?token=s3cret", (("Authorization", "s3cret"),), b"s3cret", b"s3cret")
    assert repr(request) == "<InboundRequest POST /hooks>"


IDENTITY = ClientCertificate(certificate="the certificate", private_key=SecretStr("the key"))


@pytest.mark.parametrize(
    "other",
    [
        {"certificate": "another"},
        {"private_key": SecretStr("another")},
        {"passphrase": SecretStr("")},
        {"server_ca": ""},
        {"certificate": "the certificat", "private_key": SecretStr("ethe key")},
    ],
)
def test_client_certificates_are_equal_when_every_part_is(other: dict[str, Any]) -> None:
    same = ClientCertificate(certificate="the certificate", private_key=SecretStr("the key"))
    assert same == IDENTITY
    assert hash(same) == hash(IDENTITY)
    assert evolve(IDENTITY, **other) != IDENTITY
    assert IDENTITY != "the certificate"
    assert evolve(IDENTITY, passphrase=SecretStr("x")) != evolve(IDENTITY, server_ca="x")


def test_client_certificate_never_prints() -> None:
    request = HttpRequest("GET", "https://x.example/").with_client_certificate(IDENTITY)
    shown = repr(IDENTITY) + str(IDENTITY) + repr(request)
    assert "the key" not in shown
    assert "the certificate" not in shown


def test_client_certificate_stays_with_every_copy_of_its_request() -> None:
    request = HttpRequest("GET", "https://x.example/").with_client_certificate(IDENTITY)
    for copy in (request.with_header("A", "b"), request.with_url("https://y.example/")):
        assert copy.client_certificate is IDENTITY
    assert request != HttpRequest("GET", "https://x.example/")
    assert request.with_client_certificate(None) == HttpRequest("GET", "https://x.example/")
