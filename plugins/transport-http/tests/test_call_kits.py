"""The kinds keep the kit's rules, and each rule finds a kind that breaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve

from go_services_core.call_specs import Noop, OperationCall
from go_services_core.errors import BadInput
from go_services_core.exchange import Answer, Exchange, Send
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.sources import BytesSource
from go_services_core.testing.checks.call import CallSubject
from go_services_core.testing.kit import conformance
from go_services_core.testing.pytest_kit import CallTransportKit
from go_services_core.transport_specs import Bulk, File, GraphQL, Soap
from go_services_transport_http.bulk import BulkTransport
from go_services_transport_http.file import FileTransport
from go_services_transport_http.graphql import GraphQLTransport
from go_services_transport_http.noop import NoopTransport
from go_services_transport_http.settings import BulkSettings, FileSettings, SoapSettings
from go_services_transport_http.soap import SoapTransport

URL = "https://kit.example/api/x"
JSON = (("Content-Type", "application/json"),)


def call(record: Any, **changes: Any) -> OperationCall:
    given = {"base_url": "https://kit.example/api", "params": {"a": "1"}, "provider_id": "kit", **changes}
    return OperationCall("kit.x", record, "POST", URL, JSON, {"a": "1"}, 5.0, **given)


def answer(body: bytes = b"", status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(
        status, (*JSON, *((name.replace("_", "-"), value) for name, value in headers.items())), body, URL
    )


SOAP = b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><R>1</R></e:Body></e:Envelope>'
BULK = Bulk(status_path="/jobs/{job}", result_path="/jobs/{job}/r", done=("d",), failed=("f",))
UPLOAD = File(direction="upload", protocol="resumable")
SUBJECTS = {
    "graphql": CallSubject(
        GraphQLTransport(), call(GraphQL(document="{ a }")), (answer(b'{"data": 1}'),), (call(Noop()),)
    ),
    "persisted": CallSubject(
        GraphQLTransport(),
        call(GraphQL(document="{ a }", persisted="auto")),
        (answer(b'{"errors": [{"message": "PersistedQueryNotFound"}]}'), answer(b'{"data": 1}')),
        (evolve(call(GraphQL(document="{ a }")), body={"a": object()}),),
    ),
    "soap": CallSubject(
        SoapTransport(SoapSettings()),
        call(Soap(body="R", namespace="urn:a", ws_security="digest")),
        (answer(SOAP),),
        (call(Noop()), evolve(call(Soap(body="R", namespace="urn:a")), body={"a b": 1})),
    ),
    "bulk": CallSubject(
        BulkTransport(BulkSettings()),
        call(BULK),
        (answer(b'{"id": 1}'), answer(b'{"state": "x"}'), answer(b'{"state": "d"}'), answer(b"[]")),
        (call(Noop()), call(evolve(BULK, result_path="/{b}"))),
    ),
    "upload": CallSubject(
        FileTransport(FileSettings(chunk=4)),
        call(UPLOAD, source=BytesSource(b"123456")),
        (answer(Location="/s"), answer(status=308, Range="bytes=0-3"), answer(b'{"id": 1}')),
        (call(Noop()), call(UPLOAD), call(File(direction="upload"), source=BytesSource(b"1"))),
    ),
    "form": CallSubject(
        FileTransport(FileSettings()),
        call(File(direction="upload", protocol="form"), source=BytesSource(b"1")),
        (answer(b"{}"),),
        (call(File(direction="upload", protocol="form"), source=BytesSource(b"1"), content_type="a\r\nb"),),
    ),
    "download": CallSubject(
        FileTransport(FileSettings()),
        call(File(direction="download")),
        (answer(b"123"),),
        (call(Noop()),),
        reads_anything=True,
    ),
    "noop": CallSubject(NoopTransport(), call(Noop()), (), (call(GraphQL(document="{ a }")),)),
}


def kit(name: str) -> type[CallTransportKit]:
    class TestKind(CallTransportKit):
        @asynccontextmanager
        async def subject(self) -> AsyncIterator[CallSubject]:
            yield SUBJECTS[name]

    return TestKind


TestGraphQL = kit("graphql")
TestPersisted = kit("persisted")
TestSoap = kit("soap")
TestBulk = kit("bulk")
TestUpload = kit("upload")
TestForm = kit("form")
TestDownload = kit("download")
TestNoop = kit("noop")


# --- each rule finds who breaks it ---------------------------------------------------------------------------------


class Plain:
    """Keeps every rule."""

    def exchange(self, call: OperationCall) -> Exchange:
        if not isinstance(call.record, GraphQL):
            raise BadInput("no")
        response = yield Send(request=self.request(call))
        return Answer(response.json(), response)

    def request(self, call: OperationCall) -> HttpRequest:
        return HttpRequest(call.method, call.url, call.headers)


class Strange(Plain):
    def exchange(self, call: OperationCall) -> Exchange:
        yield "a step"  # type: ignore[misc]
        return (yield from super().exchange(call))


class Counting(Plain):
    count = 0

    def request(self, call: OperationCall) -> HttpRequest:
        self.count += 1
        return super().request(call).with_header("X-Count", str(self.count))


class Changing(Plain):
    def exchange(self, call: OperationCall) -> Exchange:
        call.body["new"] = 1  # type: ignore[index]
        return (yield from super().exchange(call))


class Lenient(Plain):
    def exchange(self, call: OperationCall) -> Exchange:
        response = yield Send(request=self.request(call))
        return Answer(response.json(), response)


class Swallowing(Plain):
    def exchange(self, call: OperationCall) -> Exchange:
        try:
            return (yield from super().exchange(call))
        except BadInput:
            raise
        except Exception:
            return Answer(None, HttpResponse(200))


class Untyped(Plain):
    def exchange(self, call: OperationCall) -> Exchange:
        exchange = super().exchange(call)
        response = yield next(exchange)
        return Answer({"data": 1} if response.body.startswith(b"\x00") else response.json(), response)


class Signing(Plain):
    def request(self, call: OperationCall) -> HttpRequest:
        return super().request(call).with_header("Authorization", "Bearer x")


class Stubborn(Plain):
    def exchange(self, call: OperationCall) -> Exchange:
        try:
            return (yield from super().exchange(call))
        except GeneratorExit:
            yield Send(request=self.request(call))
            raise


def breakers() -> Iterator[tuple[str, type[Plain]]]:
    yield from {
        "CALL-001": Strange,
        "CALL-002": Counting,
        "CALL-003": Changing,
        "CALL-004": Lenient,
        "CALL-005": Swallowing,
        "CALL-006": Untyped,
        "CALL-007": Signing,
        "CALL-008": Stubborn,
    }.items()


@pytest.mark.parametrize(("rule", "cls"), list(breakers()))
async def test_each_rule_finds_who_breaks_it(rule: str, cls: type[Plain]) -> None:
    @asynccontextmanager
    async def subject() -> AsyncIterator[CallSubject]:
        yield CallSubject(cls(), call(GraphQL(document="{ a }")), (answer(b"{}"),), (call(Noop()),))

    failed = {result.check.id for result in (await conformance("call", subject)).results if result.outcome == "failed"}
    assert rule in failed


async def test_a_kind_in_a_few_lines_keeps_every_rule() -> None:
    @asynccontextmanager
    async def subject() -> AsyncIterator[CallSubject]:
        yield CallSubject(Plain(), call(GraphQL(document="{ a }")), (answer(b"{}"),), (call(Noop()),))

    assert (await conformance("call", subject)).ok
