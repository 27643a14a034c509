"""Nonces of DPoP proofs (RFC 9449 §8 and §9): read, asked for, remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from go_services_core.auth.dpop_nonces import DpopNonces, Role, offered_nonce, wanted_nonce
from go_services_core.errors import BadInput
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.runtime.signed import send_signed

ASKS = HttpResponse(
    400,
    (("Content-Type", "application/json"), ("DPoP-Nonce", "n-1")),
    b'{"error":"use_dpop_nonce","error_description":"required"}',
)
CHALLENGES = HttpResponse(
    401,
    (
        ("WWW-Authenticate", 'Bearer realm="x"'),
        ("WWW-Authenticate", 'DPoP error="use_dpop_nonce", error_description="required"'),
        ("DPoP-Nonce", "n-2"),
    ),
)


def test_challenges_of_both_servers_are_read() -> None:
    assert wanted_nonce(ASKS) == "n-1"
    assert wanted_nonce(CHALLENGES) == "n-2"


@pytest.mark.parametrize(
    "answer",
    [
        HttpResponse(200, ASKS.headers, ASKS.body),
        HttpResponse(400, (), ASKS.body),
        HttpResponse(400, ASKS.headers, b'{"error":"invalid_dpop_proof"}'),
        HttpResponse(400, ASKS.headers, b"<html>"),
        HttpResponse(400, ASKS.headers, b"[]"),
        HttpResponse(401, (("WWW-Authenticate", 'DPoP error="invalid_token"'), ("DPoP-Nonce", "n"))),
        HttpResponse(400, (("DPoP-Nonce", 'a"b'),), ASKS.body),
        HttpResponse(400, (("DPoP-Nonce", "n" * 513),), ASKS.body),
        HttpResponse(400, (("DPoP-Nonce", ""),), ASKS.body),
    ],
)
def test_other_answers_ask_for_no_nonce(answer: HttpResponse) -> None:
    assert wanted_nonce(answer) is None


def test_any_answer_may_bring_the_next_nonce() -> None:
    assert offered_nonce(HttpResponse(200, (("dpop-nonce", "n-3"),))) == "n-3"
    assert offered_nonce(HttpResponse(200)) is None


def offer(nonce: str) -> HttpResponse:
    return HttpResponse(200, (("DPoP-Nonce", nonce),))


def test_last_nonce_of_an_origin_is_remembered_whatever_the_path() -> None:
    nonces = DpopNonces()
    nonces.learn("resource", "https://API.example/a?b", offer("one"))
    nonces.learn("resource", "https://api.example/c", offer("two"))
    nonces.learn("resource", "https://api.example/c", HttpResponse(200))
    assert nonces.get("resource", "https://api.example/d") == "two"
    for other in ("http://api.example/", "https://api.example:8443/", "https://example/"):
        assert nonces.get("resource", other) is None


@pytest.mark.parametrize(("learnt", "other"), [("resource", "authorization"), ("authorization", "resource")])
def test_authorization_server_and_resource_on_one_origin_have_nonces_of_their_own(learnt: Role, other: Role) -> None:
    nonces = DpopNonces()
    nonces.learn(learnt, "https://one.example/", offer("n"))
    assert nonces.get(other, "https://one.example/") is None


def test_memory_is_bounded_and_forgets_whom_it_heard_of_least_recently() -> None:
    nonces = DpopNonces(most=3)
    for host in ("a", "b", "c", "a", "d"):
        nonces.learn("resource", f"https://{host}.example/", offer(f"n-{host}"))
    assert len(nonces) == 3
    assert nonces.get("resource", "https://b.example/") is None
    assert nonces.get("resource", "https://a.example/") == "n-a"


def test_nonce_that_somebody_else_was_offered_is_taken_if_it_can_be_one() -> None:
    nonces = DpopNonces()
    nonces.give("resource", "https://a.example/x", "from-elsewhere")
    assert nonces.get("resource", "https://a.example/") == "from-elsewhere"
    for wrong in ("", 'a"b', "a b", "n" * 513, "a\nb"):
        with pytest.raises(BadInput) as caught:
            nonces.give("resource", "https://a.example/", wrong)
        assert caught.value.field == "nonce"
    assert nonces.get("resource", "https://a.example/") == "from-elsewhere"


async def test_body_that_can_be_opened_once_is_not_sent_again_with_the_nonce() -> None:
    class Flowing:
        length = 1
        once = True

        async def open(self) -> AsyncIterator[bytes]:
            yield b"x"

    class Demanding:
        sent = 0

        async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
            self.sent += 1
            return HttpResponse(401, (("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'), ("DPoP-Nonce", "n1")))

    class Unsigned:
        def sign(self, request: HttpRequest, key: Any, ctx: Any) -> HttpRequest:
            return request

    core: Any = SimpleNamespace(nonces=DpopNonces(), signing_context=lambda nonce, ahead: None)
    key: Any = None
    for body, sent in ((Flowing(), 1), (b"x", 2)):
        transport = Demanding()
        request = HttpRequest("PUT", "https://api.example/x", body=body)
        await send_signed(core, Unsigned(), key, request, provider_id="acme", transport=transport)  # type: ignore[arg-type]
        assert transport.sent == sent
