"""Flows are generators: a test sends the answers and reads the requests itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from go_services_core.auth.settings import OAuth2Settings
from go_services_core.auth_specs import AuthSpec
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential, Scope, TokenSet
from go_services_core.protocols import AuthContext, Flow
from go_services_core.secret import SecretStr
from go_services_core.testing.clock import FrozenClock

T = TypeVar("T")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(flow: Flow[T], *answers: HttpResponse) -> tuple[T, list[HttpRequest]]:
    """The flow's result and the requests it made; every answer must be taken."""
    waiting, requests = list(answers), []
    step = None
    try:
        step = next(flow)
        while True:
            assert isinstance(step, HttpRequest)
            requests.append(step)
            step = flow.send(waiting.pop(0))
    except StopIteration as end:
        assert not waiting
        return end.value, requests


def json_answer(fields: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status, (("Content-Type", "application/json"),), json.dumps(fields).encode())


def form_of(request: HttpRequest) -> dict[str, str]:
    """The form's fields; one that is there twice fails the test."""
    assert isinstance(request.body, bytes)
    assert request.header("Content-Type") == "application/x-www-form-urlencoded"
    pairs = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def client_context(record: AuthSpec, **more: Any) -> AuthContext:
    """What a flow of ``record`` gets to know; ``more`` replaces fields, ``secret`` the client's."""
    secret = more.pop("secret", SecretStr("client-secret-0123"))
    fields: dict[str, Any] = {
        "provider_id": "acme",
        "auth": record,
        "settings": OAuth2Settings(client_id="client-1", client_secret=secret),
        "scope": Scope("user", "u1"),
        "now": NOW,
        "random": FrozenClock().random,
        "redirect_uri": "https://app.example/callback",
        "state": SecretStr("state-0123456789"),
        "requested": (),
    }
    return AuthContext(**{**fields, **more})


def held(record: AuthSpec, tokens: TokenSet) -> Credential:
    """A connection's credential with these tokens."""
    return Credential(connection_id="c1", version=1, auth_kind=record.kind, tokens=tokens, refreshable=True)
