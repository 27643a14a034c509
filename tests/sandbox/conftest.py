"""A sandbox on a clock that stands still, and a plain HTTP client that knows the OAuth forms."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import pytest
from attrs import frozen

from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.sandbox import Sandbox

REDIRECT = "http://127.0.0.1:8123/callback"
VERIFIER = "correct-horse-battery-staple-0123456789-abcdefg"


@frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str
    json: Any

    @property
    def redirected_to(self) -> str:
        return self.headers["Location"].partition("?")[0]

    @property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.headers["Location"]).query))


class Client:
    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.session = session

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.sandbox.url + path, allow_redirects=False, **options) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json" and text
            return Answer(answer.status, answer.headers, text, await answer.json() if is_json else None)

    async def get(self, path: str, token: str | None = None, **headers: str) -> Answer:
        return await self.send("GET", path, headers=headers if token is None else {**bearer(token), **headers})

    async def authorize(self, *more: tuple[str, str], **params: str | None) -> Answer:
        """A valid request but for what ``params`` changes, removes (None) and ``more`` repeats."""
        challenge = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
        query: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.sandbox.client_id,
            "redirect_uri": REDIRECT,
            "scope": "items.read items.write",
            "state": "s t&=",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **params,
        }
        pairs = [(name, value) for name, value in query.items() if value is not None]
        return await self.send("GET", f"/authorize?{urlencode([*pairs, *more])}")

    async def code(self, **params: str | None) -> str:
        return (await self.authorize(**params)).params["code"]

    def basic(self) -> dict[str, str]:
        return basic(self.sandbox.client_id, self.sandbox.client_secret.reveal())

    async def form(self, path: str, fields: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.send("POST", path, data=aiohttp.FormData(fields), headers=headers or self.basic())

    async def exchange(self, code: str, headers: Mapping[str, str] | None = None, **fields: str) -> Answer:
        own = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
        return await self.form("/token", own | fields, headers)

    async def refresh(self, token: str, **fields: str) -> Answer:
        return await self.form("/token", {"grant_type": "refresh_token", "refresh_token": token, **fields})

    async def tokens(self, **params: str | None) -> dict[str, Any]:
        answer = await self.exchange(await self.code(**params))
        assert answer.status == 200, answer.text
        return answer.json

    async def works(self, token: str) -> bool:
        return (await self.get("/userinfo", token)).status == 200


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(user, password)}


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def sandbox(clock: FrozenClock) -> AsyncIterator[Sandbox]:
    async with Sandbox(clock=clock) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield session


@pytest.fixture
async def client(sandbox: Sandbox, session: aiohttp.ClientSession) -> Client:
    return Client(sandbox, session)
