"""An answer of 200 that says that the credential is refused is met as a 401 is: one renewal, one repetition (P82)."""

from __future__ import annotations

from typing import ClassVar

import pytest
from attrs import frozen

from go_services_core import Operation, Ref, TransportSpec, hookimpl
from go_services_core.call_specs import OperationCall
from go_services_core.errors import ProviderUnauthorized
from go_services_core.exchange import Answer, Exchange, Send, Wait
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.transport_specs import Stream


@frozen
class Picky:
    kind: ClassVar[str] = "picky"


class PickyTransport:
    """Takes the first so many answers, of 200, for a refusal."""

    refusals = 1

    def __init__(self, settings: object, env: object) -> None:
        self.answers = 0

    def failure(self, response: HttpResponse) -> ProviderUnauthorized | None:
        self.answers += 1
        return ProviderUnauthorized("UNAUTHENTICATED") if self.answers <= self.refusals else None

    def exchange(self, call: OperationCall) -> Exchange:
        response = yield Send(request=HttpRequest("GET", call.url, call.headers), failure=self.failure)
        return Answer(response.json(), response)


class LongTransport:
    """Asks twice, with a time between in which the token that was renewed ends too."""

    def __init__(self, settings: object, env: object) -> None:
        self.answers = 0

    def failure(self, response: HttpResponse) -> ProviderUnauthorized | None:
        self.answers += 1
        return ProviderUnauthorized("UNAUTHENTICATED") if self.answers % 2 else None

    def exchange(self, call: OperationCall) -> Exchange:
        yield Send(request=HttpRequest("GET", call.url, call.headers), failure=self.failure)
        yield Wait(3600)
        response = yield Send(request=HttpRequest("GET", call.url, call.headers), failure=self.failure)
        return Answer(response.json(), response)


@frozen
class Long:
    kind: ClassVar[str] = "long"
    longest: float = 86400.0


class Kinds:
    GS_CONTRACT = 1

    @hookimpl
    def gs_transports(self) -> list[TransportSpec]:
        made = {"picky": PickyTransport, "long": LongTransport}
        return [TransportSpec(kind=kind, factory=Ref(f"{__name__}:{one.__name__}")) for kind, one in made.items()]


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_refusal_in_an_answer_of_200_renews_once(app, counted, monkeypatch, refusals):
    monkeypatch.setattr(PickyTransport, "refusals", refusals)
    app.set(operations=(Operation("me", "GET", "/userinfo", call=Picky()),))
    async with app.open(plugins={"kinds": Kinds()}) as runtime:
        connection = await app.connect(runtime)
        counted()
        if refusals == 1:
            assert (await runtime.execute(connection.id, "me")).attempts == 2
        else:
            with pytest.raises(ProviderUnauthorized):
                await runtime.execute(connection.id, "me")
    seen = counted()
    assert (seen["token"], seen["userinfo"]) == (1, 2)


async def test_the_request_that_opens_a_stream_renews_a_refused_token_once(app, sandbox, counted):
    app.set(operations=(Operation("me", "GET", "/userinfo", call=Stream(format="lines")),))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        sandbox.expire_access_tokens()
        counted()
        assert [line async for line in runtime.stream(connection.id, "me")]
    seen = counted()
    assert (seen["token"], seen["userinfo"]) == (1, 2)


async def test_each_request_of_a_long_job_may_renew_the_token(app, counted):
    app.set(operations=(Operation("me", "GET", "/userinfo", call=Long()),))
    async with app.open(plugins={"kinds": Kinds()}) as runtime:
        connection = await app.connect(runtime)
        counted()
        assert (await runtime.execute(connection.id, "me")).attempts == 4
    seen = counted()
    assert (seen["token"], seen["userinfo"]) == (2, 4)
