"""Key states, refusals and outages, against a stub of KMS that has them (moto uses disabled keys)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    ConfigError,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import KeyRef
from go_services_core.sealing import WrappedKey
from go_services_core.secret import SecretBytes, SecretStr
from go_services_secrets_kms.backend import KmsBackend
from go_services_secrets_kms.endpoints import Endpoints

from .conftest import Opener
from .kms_stub import KmsStub, Refusal

CONTEXT = bytes(range(32))
ID, OTHER_ID = "11111111-2222-3333-4444-555555555555", "66666666-2222-3333-4444-555555555555"


@pytest.fixture
def backend(home: KmsStub, open_kms: Opener) -> KmsBackend:
    home.add_key(ID, alias="alias/app")
    return open_kms(key="alias/app", endpoint_url=home.url, max_attempts=2)


async def every_use(backend: KmsBackend, made: Any) -> list[Exception]:
    """What each operation raises."""
    old = WrappedKey(wrapped=made.wrapped, key=made.key, context=CONTEXT)
    uses = [
        lambda: backend.generate(CONTEXT),
        lambda: backend.wrap(made.plaintext, CONTEXT),
        lambda: backend.unwrap(made.wrapped, made.key, CONTEXT),
        lambda: backend.rewrap([old]),
        lambda: backend.check(),
    ]
    caught = []
    for use in uses:
        with pytest.raises(SecretError) as error:
            await use()
        caught.append(error.value)
    return caught


@pytest.mark.parametrize(
    ("there", "state", "remedy"),
    [
        ("Disabled", "disabled", "Enable it"),
        ("PendingDeletion", "pending-deletion", "Cancel its deletion"),
        ("PendingImport", "pending-import", "Import its key material"),
    ],
)
async def test_key_that_is_off_is_disabled_and_works_again_when_it_is_on(
    backend: KmsBackend, home: KmsStub, there: str, state: str, remedy: str
) -> None:
    made = await backend.generate(CONTEXT)
    key = home.keys[made.key.key_id]
    key.state = there
    for error in await every_use(backend, made):
        assert type(error) is KeyDisabled
        assert error.metadata["state"] == state
        assert error.metadata["aws_request_id"] == "stub-request-1"
        assert remedy in str(error)
        assert not error.retryable
    key.state = "Enabled"
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext


async def test_key_that_is_unavailable_for_a_while_is_an_outage(backend: KmsBackend, home: KmsStub) -> None:
    made = await backend.generate(CONTEXT)
    home.keys[made.key.key_id].state = "Unavailable"
    for error in await every_use(backend, made):
        assert type(error) is BackendUnavailable
        assert error.metadata["reason"] == "key-unavailable"


async def test_denied_action_is_named(backend: KmsBackend, home: KmsStub) -> None:
    made = await backend.generate(CONTEXT)
    home.keys[made.key.key_id].denied = "all"
    actions = ("kms:GenerateDataKey", "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKey")
    for error, action in zip(await every_use(backend, made), actions, strict=True):
        assert type(error) is KeyDenied
        assert error.metadata["action"] == action
        assert action in error.message
        assert not error.retryable


async def test_check_proves_that_the_key_also_unwraps(backend: KmsBackend, home: KmsStub) -> None:
    made = await backend.generate(CONTEXT)
    home.keys[made.key.key_id].denied = "Decrypt"
    with pytest.raises(KeyDenied, match="kms:Decrypt"):
        await backend.check()


async def test_rewrap_tells_the_old_keys_trouble_from_the_primary_keys(
    backend: KmsBackend, home: KmsStub, open_kms: Opener
) -> None:
    old = home.add_key(OTHER_ID)
    made = await open_kms(key=old.arn, endpoint_url=home.url).generate(CONTEXT)
    moving = open_kms(key="alias/app", compatible=(old.arn,), endpoint_url=home.url)
    fresh = await moving.generate(CONTEXT)
    asked = [WrappedKey(wrapped=key.wrapped, key=key.key, context=CONTEXT) for key in (made, fresh)]
    old.state = "Disabled"
    first, second = await moving.rewrap(asked)
    assert isinstance(first, KeyDisabled)
    assert isinstance(second, WrappedKey)
    old.state, old.denied = "Enabled", "ReEncryptFrom"
    first, second = await moving.rewrap(asked)
    assert isinstance(first, KeyDenied)
    assert first.metadata["action"] == "kms:ReEncryptFrom"
    assert isinstance(second, WrappedKey)
    old.denied = None
    home.keys[fresh.key.key_id].state = "Disabled"
    before = home.calls["ReEncrypt"]
    with pytest.raises(KeyDisabled, match=fresh.key.key_id):
        await moving.rewrap(asked)
    assert home.calls["ReEncrypt"] == before


async def test_rewrap_asks_for_no_plaintext(backend: KmsBackend, home: KmsStub) -> None:
    made = [await backend.generate(CONTEXT) for _ in range(12)]
    before = home.calls.copy()
    answers = await backend.rewrap([WrappedKey(wrapped=key.wrapped, key=key.key, context=CONTEXT) for key in made])
    assert all(isinstance(answer, WrappedKey) for answer in answers)
    asked = home.calls - before
    assert asked == {"ReEncrypt": 12, "GenerateDataKey": 1}, "one proof of the primary key, one ReEncrypt each"


async def test_rewrap_leaves_a_thread_for_others(home: KmsStub, open_kms: Opener) -> None:
    key = home.add_key(ID)
    backend = open_kms(key=key.arn, endpoint_url=home.url, max_concurrency=3)
    made = [await backend.generate(CONTEXT) for _ in range(6)]
    gate, at_once, running = threading.Semaphore(0), [], set()

    def hold(operation: str) -> None:
        if operation == "ReEncrypt":
            running.add(threading.get_ident())
            at_once.append(len(running))
            assert gate.acquire(timeout=30)
            running.discard(threading.get_ident())

    home.before = hold
    moving = asyncio.create_task(
        backend.rewrap([WrappedKey(wrapped=key.wrapped, key=key.key, context=CONTEXT) for key in made])
    )
    async with asyncio.timeout(30):
        while len(at_once) < 2:
            await asyncio.sleep(0.01)
        await backend.generate(CONTEXT)
    for _ in made:
        gate.release()
    assert len(await moving) == 6
    assert max(at_once) == 2


@pytest.mark.parametrize("code", ["ThrottlingException", "LimitExceededException", "RequestLimitExceeded"])
async def test_throttling_is_retried_and_then_unavailable(backend: KmsBackend, home: KmsStub, code: str) -> None:
    await backend.check()
    refusal = Refusal(400, code, "Rate exceeded")
    home.faults = [refusal]
    await backend.generate(CONTEXT)
    assert home.faults == []
    home.faults = [refusal, refusal]
    with pytest.raises(BackendUnavailable) as caught:
        await backend.generate(CONTEXT)
    assert caught.value.metadata["reason"] == "throttled"
    assert caught.value.retryable
    await backend.generate(CONTEXT)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "KMSInternalException"),
        (503, "DependencyTimeoutException"),
        (500, "KeyUnavailableException"),
        (502, "SomethingNew"),
        (408, "RequestTimeout"),
    ],
)
async def test_failing_service_is_retried_and_then_unavailable(
    backend: KmsBackend, home: KmsStub, status: int, code: str
) -> None:
    await backend.check()
    refusal = Refusal(status, code, "internal")
    home.faults = [refusal]
    await backend.generate(CONTEXT)
    home.faults = [refusal, refusal]
    with pytest.raises(BackendUnavailable) as caught:
        await backend.generate(CONTEXT)
    assert caught.value.metadata["aws_code"] == code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NotFoundException", KeyNotFound),
        ("InvalidArnException", KeyNotFound),
        ("InvalidKeyUsageException", KeyInvalid),
        ("ExpiredTokenException", KeyDenied),
        ("UnrecognizedClientException", KeyDenied),
        ("InvalidSignatureException", KeyDenied),
        ("InvalidGrantTokenException", KeyDenied),
        ("InvalidCiphertextException", CannotOpen),
        ("IncorrectKeyException", CannotOpen),
        ("SomethingNew", SecretError),
    ],
)
async def test_refusal_is_typed_and_not_quoted(
    backend: KmsBackend, home: KmsStub, code: str, expected: type[SecretError]
) -> None:
    made = await backend.generate(CONTEXT)
    home.always = Refusal(400, code, "quoted-secret")
    with pytest.raises(expected) as caught:
        await backend.unwrap(made.wrapped, made.key, CONTEXT)
    assert type(caught.value) is expected
    assert caught.value.metadata["aws_code"] == code
    assert "quoted-secret" not in f"{caught.value!r} {caught.value.as_dict()}"


async def test_wrong_access_key_and_wrong_secret_are_denied(home: KmsStub, open_kms: Opener) -> None:
    key = home.add_key(ID)
    for wrong in ({"access_key_id": SecretStr("AKIDOTHER")}, {"secret_access_key": SecretStr("not-the-secret")}):
        with pytest.raises(KeyDenied) as caught:
            await open_kms(key=key.arn, endpoint_url=home.url, **wrong).check()
        assert "not-the-secret" not in f"{caught.value!r} {caught.value.as_dict()}"


async def test_no_credentials_at_all_is_denied(home: KmsStub, open_kms: Opener) -> None:
    key = home.add_key(ID)
    backend = open_kms(key=key.arn, endpoint_url=home.url, access_key_id=None, secret_access_key=None)
    with pytest.raises(KeyDenied, match=r"secrets\.kms\.access_key_id"):
        await backend.check()
    assert not home.calls


async def test_missing_region_and_profile_name_the_setting(home: KmsStub, open_kms: Opener) -> None:
    with pytest.raises(ConfigError) as caught:
        await open_kms(key="alias/app", region=None, endpoint_url=home.url).check()
    assert caught.value.field == "secrets.kms.region"
    with pytest.raises(ConfigError, match=r"secrets\.kms\.profile"):
        await open_kms(key="alias/app", profile="none-such", access_key_id=None, secret_access_key=None).check()


async def test_region_comes_from_the_arn_and_from_the_environment(
    home: KmsStub, open_kms: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stub refuses a signature for another Region than its own."""
    key = home.add_key(ID, alias="alias/app")
    assert (await open_kms(key=key.arn, region=None, endpoint_url=home.url).check()).key_id == key.arn
    monkeypatch.setenv("AWS_DEFAULT_REGION", home.region)
    assert (await open_kms(key="alias/app", region=None, endpoint_url=home.url).check()).key_id == key.arn
    with pytest.raises(KeyDenied):
        await open_kms(key="alias/app", region="eu-central-1", endpoint_url=home.url).check()


async def test_refused_connection_and_silence_are_unavailable(
    home: KmsStub, open_kms: Opener, unused_tcp_port: int
) -> None:
    key = home.add_key(ID)
    backend = open_kms(key=key.arn, endpoint_url=f"http://127.0.0.1:{unused_tcp_port}", max_attempts=1)
    with pytest.raises(BackendUnavailable) as caught:
        await backend.check()
    assert caught.value.metadata["reason"] == "connection"
    released = threading.Event()
    home.before = lambda _: released.wait(30) and None
    try:
        with pytest.raises(BackendUnavailable) as caught:
            await open_kms(key=key.arn, endpoint_url=home.url, read_timeout=0.2, max_attempts=1).check()
        assert caught.value.metadata["reason"] == "timeout"
        assert "ReadTimeoutError" in str(caught.value)
    finally:
        released.set()


async def test_whole_operation_has_a_time_limit(home: KmsStub, open_kms: Opener) -> None:
    """Over all attempts: each alone stays inside read_timeout."""
    key = home.add_key(ID)
    released = threading.Event()
    home.before = lambda _: released.wait(30) and None
    try:
        with pytest.raises(BackendUnavailable, match=r"within 0\.5 s") as caught:
            await open_kms(key=key.arn, endpoint_url=home.url, timeout=0.5).check()
        assert caught.value.metadata["reason"] == "timeout"
    finally:
        released.set()


async def test_cancelled_caller_leaves_the_backend_usable(backend: KmsBackend, home: KmsStub) -> None:
    made = await backend.generate(CONTEXT)
    entered, released = threading.Event(), threading.Event()

    def hold(_: str) -> None:
        entered.set()
        assert released.wait(30)

    home.before = hold
    tasks = [asyncio.create_task(backend.generate(CONTEXT)) for _ in range(20)]
    assert await asyncio.to_thread(entered.wait, 30)
    for task in tasks:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))
    released.set()
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    keys = await asyncio.gather(*(backend.generate(CONTEXT) for _ in range(20)))
    assert len({key.plaintext.reveal() for key in keys}) == 20


async def test_loop_goes_on_while_kms_is_slow(backend: KmsBackend, home: KmsStub) -> None:
    await backend.check()
    released = threading.Event()
    home.before = lambda _: released.wait(30) and None
    asked = asyncio.create_task(backend.generate(CONTEXT))
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert not asked.done()
    released.set()
    await asked


async def test_one_client_serves_concurrent_first_calls(
    backend: KmsBackend, home: KmsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    endpoints: Endpoints = backend._endpoints
    client = endpoints._session.client

    def counted(*arguments: Any) -> Any:
        made.append(client(*arguments))
        return made[-1]

    monkeypatch.setattr(endpoints._session, "client", counted)
    await asyncio.gather(*(backend.generate(CONTEXT) for _ in range(16)))
    assert len(made) == 1


async def test_closed_backend_says_so(backend: KmsBackend) -> None:
    made = await backend.generate(CONTEXT)
    await backend.aclose()
    for error in await every_use(backend, made):
        assert type(error) is BackendUnavailable
        assert "closed" in str(error)


async def test_server_that_is_not_kms_is_unavailable(backend: KmsBackend, home: KmsStub) -> None:
    home.answer = lambda *_: {"hello": "world"}  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailable, match="not KMS") as caught:
        await backend.check()
    assert caught.value.metadata["reason"] == "answer"
    home.answer = lambda *_: {"KeyId": "x", "Plaintext": "AAAA", "CiphertextBlob": "AAAA"}  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailable, match="names no key"):
        await backend.check()


async def test_ciphertext_that_names_another_key_is_damage_not_denial(backend: KmsBackend, home: KmsStub) -> None:
    made = await backend.generate(CONTEXT)
    home.always = Refusal(400, "AccessDeniedException", "The ciphertext refers to a customer master key that does not")
    with pytest.raises(CannotOpen):
        await backend.unwrap(made.wrapped, made.key, CONTEXT)


async def test_wrapping_a_brought_key_needs_no_generated_one(backend: KmsBackend, home: KmsStub) -> None:
    made = await backend.wrap(SecretBytes(bytes(range(32))), CONTEXT)
    assert home.calls == {"Encrypt": 1}
    assert made.key == KeyRef("kms", home.aliases["alias/app"], 1)
