"""Sealed, standby, throttled, silent, gone: each is an outage with its reason, and ends by itself."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from go_services_core.errors import BackendUnavailable, KeyDenied, KeyInvalid
from go_services_core.model import KeyRef
from go_services_core.sealing import WrappedKey
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.testing.openbao import openbao_server
from go_services_secrets_vault.backend import VaultBackend, open_backend
from go_services_secrets_vault.settings import VaultSettings

from .answering import Answering, answering
from .conftest import CONTEXT, Vault, environment, outage

pytestmark = pytest.mark.integration
WRAPPED = WrappedKey(wrapped=b"vault:v1:AAAA", key=KeyRef("vault", "transit/k", 1), context=CONTEXT)
LOOKED_UP = json.dumps({"data": {"ttl": 0, "renewable": False}}).encode()
KEY = {"type": "aes256-gcm96", "latest_version": 1, "min_decryption_version": 1, "keys": {"1": 1}, "derived": True}


@pytest.fixture
def stub() -> Iterator[Answering]:
    with answering() as made:
        yield made


async def asked(stub: Answering, **changes: object) -> VaultBackend:
    """A backend whose token is looked up already."""
    values: dict[str, object] = {"address": stub.address, "key": "k", "token": SecretStr("t"), "max_attempts": 3}
    backend = open_backend(VaultSettings(**{**values, **changes}), environment())  # type: ignore[arg-type]
    stub.answers[:0] = [(200, LOOKED_UP, ("X-Test", "1"))]
    return backend


# --- a real server -----------------------------------------------------------------------------------------------------


async def test_server_sealed_in_the_middle_of_work_is_told_and_recovers_by_itself(vault: Vault) -> None:
    backend = vault.open()
    made = await backend.generate(CONTEXT)
    failures: list[BackendUnavailable] = []
    worked = 0
    stop = asyncio.Event()

    async def work() -> None:
        nonlocal worked
        while not stop.is_set():
            try:
                own = await backend.generate(CONTEXT)
                assert await backend.unwrap(own.wrapped, own.key, CONTEXT) == own.plaintext
                worked += 1
            except BackendUnavailable as error:
                failures.append(error)
                await asyncio.sleep(0.02)

    async def until(condition: object) -> None:
        async with asyncio.timeout(20):
            while not condition():  # type: ignore[operator]
                await asyncio.sleep(0.01)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    await until(lambda: worked >= 20)
    await asyncio.to_thread(vault.server.seal)
    try:
        await until(lambda: len(failures) >= 20)
        error = await outage(backend.unwrap(made.wrapped, made.key, CONTEXT), "sealed")
        assert error.retryable
        assert "Unseal" in str(error)
    finally:
        await asyncio.to_thread(vault.server.unseal)
    before = worked
    await until(lambda: worked >= before + 20)
    stop.set()
    await asyncio.gather(*workers)
    assert "sealed" in {error.metadata["reason"] for error in failures}
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext


async def test_backend_opened_while_the_server_is_sealed_works_after_it(vault: Vault) -> None:
    backend = vault.open(**vault.approle(token_ttl="1h"))
    await asyncio.to_thread(vault.server.seal)
    try:
        await outage(backend.check(), "sealed")
    finally:
        await asyncio.to_thread(vault.server.unseal)
    assert (await backend.check()).key_id == vault.key_id


async def test_rate_limit_of_the_server_is_told_as_throttling(vault: Vault) -> None:
    backend = vault.open(max_attempts=1)
    made = await backend.generate(CONTEXT)
    quota = f"sys/quotas/rate-limit/{vault.key}"
    path = f"transit/decrypt/{vault.key}"
    vault.server.request("POST", quota, {"rate": 1, "interval": "60s", "path": path})
    try:
        await backend.unwrap(made.wrapped, made.key, CONTEXT)
        await outage(backend.unwrap(made.wrapped, made.key, CONTEXT), "throttled")
    finally:
        vault.server.request("DELETE", quota)


async def test_server_that_stops_is_an_outage(tmp_path: Path) -> None:
    with openbao_server(tmp_path) as own:
        own.enable("transit", "transit")
        own.request("POST", "transit/keys/k", {"derived": True})
        settings = VaultSettings(address=own.address, key="k", token=SecretStr(own.root_token))
        backend = open_backend(settings, environment())
        await backend.check()
    await outage(backend.generate(CONTEXT), "connection")
    await backend.aclose()


# --- answers that a single healthy server never gives ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "reason", "repeated"),
    [
        (429, b"", "standby", True),
        (429, b'{"errors": ["request path \\"x\\": rate limit quota exceeded"]}', "throttled", True),
        (472, b"", "standby", True),
        (473, b"", "standby", True),
        (307, b"", "standby", True),
        (500, b'{"errors": ["local node not active but active cluster node not found"]}', "standby", True),
        (500, b'{"errors": ["internal error"]}', "unavailable", True),
        (502, b"<html>", "unavailable", True),
        (503, b'{"errors": ["Vault is sealed"]}', "sealed", False),
        (503, b"<html>no upstream</html>", "unavailable", True),
        (501, b"", "uninitialized", False),
        (412, b"", "unavailable", True),
        (200, b"<html>log in to the proxy</html>", "answer", False),
        (200, b'{"data": {"plaintext": "not base64!"}}', "answer", False),
        (200, b'{"data": {}}', "answer", False),
        (200, b'{"data": null}', "answer", False),
    ],
)
async def test_outage_has_its_reason_and_only_what_passes_is_repeated(
    stub: Answering, status: int, body: bytes, reason: str, repeated: bool
) -> None:
    backend = await asked(stub)
    stub.answers[1:] = [(status, body, ("Location", "http://127.0.0.1:9/elsewhere"))]
    await outage(backend.unwrap(WRAPPED.wrapped, WRAPPED.key, CONTEXT), reason)
    decrypts = [path for _, path, _ in stub.requests if "decrypt" in path]
    assert len(decrypts) == (3 if repeated else 1)
    await backend.aclose()


async def test_call_that_changes_something_is_not_repeated(stub: Answering) -> None:
    backend = await asked(stub)
    stub.answers[1:] = [(200, json.dumps({"data": KEY}).encode(), ("X-Test", "1")), (500, b"", ("X-Test", "1"))] * 3
    await outage(backend.rotate(), "unavailable")
    assert [path for method, path, _ in stub.requests if method == "POST"] == ["/v1/transit/keys/k/rotate"]
    await backend.aclose()


async def test_token_goes_to_the_address_only(stub: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a redirect nor the environment's proxies, tokens and namespaces are followed."""
    with answering() as other:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "VAULT_ADDR"):
            monkeypatch.setenv(name, other.address)
        monkeypatch.setenv("VAULT_TOKEN", "another")
        backend = await asked(stub, max_attempts=1, namespace="team-a")
        stub.answers[1:] = [(307, b"", ("Location", f"{other.address}/v1/transit/decrypt/k"))]
        await outage(backend.unwrap(WRAPPED.wrapped, WRAPPED.key, CONTEXT), "standby")
        assert other.requests == []
    assert {headers["X-Vault-Token"] for _, _, headers in stub.requests} == {"t"}
    assert {headers["X-Vault-Namespace"] for _, _, headers in stub.requests} == {"team-a"}
    await backend.aclose()


async def test_silent_server_costs_the_time_limit_and_blocks_no_loop(stub: Answering) -> None:
    """Callers beyond ``max_concurrency`` do not wait longer than the others, and the event loop goes on."""
    backend = await asked(stub, timeout=0.3, max_concurrency=2)
    stub.gate.clear()
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    other = asyncio.create_task(turning())
    calls = [outage(backend.unwrap(WRAPPED.wrapped, WRAPPED.key, CONTEXT), "timeout") for _ in range(6)]
    await asyncio.gather(*calls)
    other.cancel()
    assert turns > 3
    assert len(stub.requests) <= 2, "who waited for a thread until the end of the time limit must not ask any more"
    stub.gate.set()
    await backend.aclose()


async def test_calls_at_once_are_bounded_and_keep_their_connections(stub: Answering) -> None:
    backend = await asked(stub, max_concurrency=2)
    stub.answers[1:] = [(200, json.dumps({"data": {"plaintext": "A" * 43 + "="}}).encode(), ("X-Test", "1"))]
    names = set()
    original = backend._session.call

    def watched(*arguments: object) -> object:
        names.add(threading.current_thread().name)
        return original(*arguments)  # type: ignore[arg-type]

    backend._session.call = watched  # type: ignore[method-assign,assignment]
    await asyncio.gather(*(backend.unwrap(WRAPPED.wrapped, WRAPPED.key, CONTEXT) for _ in range(20)))
    assert 1 <= len(names) <= 2
    assert threading.current_thread().name not in names
    assert len(backend._session._idle) <= 2
    await backend.aclose()
    assert backend._session._idle == []


async def test_refused_login_answers_all_who_wait_for_it(stub: Answering) -> None:
    account = {"auth": "approle", "role_id": "r", "secret_id": SecretStr("s")}
    backend = open_backend(VaultSettings(address=stub.address, key="k", **account), environment())  # type: ignore[arg-type]
    stub.say(400, b'{"errors": ["invalid role or secret ID"]}')
    calls = (backend.unwrap(WRAPPED.wrapped, WRAPPED.key, CONTEXT) for _ in range(8))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {KeyDenied}
    assert [path for _, path, _ in stub.requests] == ["/v1/auth/approle/login"]
    await backend.aclose()


async def test_traceback_of_an_outage_holds_neither_token_nor_data_key(stub: Answering) -> None:
    """With the locals of every frame, as error reporters take them: hvac and requests have both in theirs."""
    backend = await asked(stub, token=SecretStr("hunter2"))
    stub.answers[1:] = [(200, json.dumps({"data": KEY}).encode(), ("X-Test", "1")), (503, b"", ("X-Test", "1"))]
    data_key = bytes(range(100, 132))
    error = await outage(backend.wrap(SecretBytes(data_key), CONTEXT), "unavailable")
    found = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = "".join(found.format())
    assert "backend.py" in shown
    for secret in ("hunter2", base64.b64encode(data_key).decode(), repr(data_key)):
        assert secret not in shown
    await backend.aclose()


async def test_refusal_that_is_none_of_the_known_ones_is_typed_and_not_repeated_verbatim(stub: Answering) -> None:
    backend = await asked(stub)
    stub.answers[1:] = [(400, b'{"errors": ["the secret is hunter2"]}', ("X-Test", "1"))]
    with pytest.raises(KeyInvalid) as caught:
        await backend.unwrap(WRAPPED.wrapped, WRAPPED.key, CONTEXT)
    assert "hunter2" not in str(caught.value)
    stub.say(418, b'{"errors": "hunter2"}')
    with pytest.raises(KeyInvalid, match="418"):
        await backend.unwrap(WRAPPED.wrapped, WRAPPED.key, CONTEXT)
    await backend.aclose()


async def test_close_does_not_wait_for_a_repetition(stub: Answering) -> None:
    backend = await asked(stub, timeout=60.0, max_attempts=50)
    stub.answers[1:] = [(500, b"", ("X-Test", "1"))]
    call = asyncio.create_task(backend.unwrap(WRAPPED.wrapped, WRAPPED.key, CONTEXT))
    async with asyncio.timeout(20):
        while len(stub.requests) < 5:
            await asyncio.sleep(0.01)
        await backend.aclose()
        with pytest.raises(BackendUnavailable, match="closed"):
            await call
