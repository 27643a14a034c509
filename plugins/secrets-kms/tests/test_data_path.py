"""Data keys through moto's server: real requests, contexts, aliases, Regions, ReEncrypt."""

from __future__ import annotations

import base64
import copy
import logging
import pickle
import traceback
from typing import Any

import attrs
import pytest

from go_services_core.clock import SystemClock
from go_services_core.errors import CannotOpen, KeyInvalid, KeyNotFound
from go_services_core.model import Binding, KeyRef, Scope
from go_services_core.sealing import WrappedKey
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.wrapping_keys import SealedRow
from go_services_envelope import Sealer

from .conftest import AWAY, Moto, Opener

CONTEXT = bytes(range(32))
BINDING = Binding(purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1")


async def test_reference_names_the_key_behind_the_alias(moto: Moto, open_kms: Opener) -> None:
    """P54c: a row names its key, so that the alias can move on."""
    arn = moto.key(alias="alias/by-name")
    backend = open_kms(key="alias/by-name", endpoint_url=moto.url)
    assert await backend.check() == KeyRef("kms", arn, 1)
    assert (await backend.wrap(SecretBytes(bytes(32)), CONTEXT)).key == KeyRef("kms", arn, 1)
    by_alias_arn = open_kms(key=f"{arn.rpartition(':')[0]}:alias/by-name", endpoint_url=moto.url)
    assert await by_alias_arn.check() == KeyRef("kms", arn, 1)
    by_id = open_kms(key=arn.rpartition("/")[2], endpoint_url=moto.url)
    assert await by_id.check() == KeyRef("kms", arn, 1)


async def test_unwrap_is_possible_before_anything_was_wrapped(moto: Moto, open_kms: Opener) -> None:
    moto.key(alias="alias/reader")
    made = await open_kms(key="alias/reader", endpoint_url=moto.url).generate(CONTEXT)
    reader = open_kms(key="alias/reader", endpoint_url=moto.url)
    assert await reader.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext


async def test_encryption_context_holds_version_and_context(moto: Moto, open_kms: Opener) -> None:
    """P50: what KMS authenticates is our context and the key version, under one name for policies and CloudTrail."""
    arn = moto.key()
    made = await open_kms(key=arn, endpoint_url=moto.url).generate(CONTEXT)
    context = {"go-services": f"1/{base64.urlsafe_b64encode(CONTEXT).decode()}"}
    opened = moto.client().decrypt(KeyId=arn, CiphertextBlob=made.wrapped, EncryptionContext=context)
    assert opened["Plaintext"] == made.plaintext.reveal()


async def test_other_version_of_the_key_is_refused_by_kms(moto: Moto, open_kms: Opener) -> None:
    backend = open_kms(key=moto.key(), endpoint_url=moto.url)
    made = await backend.generate(CONTEXT)
    with pytest.raises(CannotOpen):
        await backend.unwrap(made.wrapped, attrs.evolve(made.key, key_version=2), CONTEXT)


async def test_another_key_of_kms_is_refused_until_it_is_compatible(moto: Moto, open_kms: Opener) -> None:
    """P51, P54b."""
    old, new = moto.key(), moto.key()
    made = await open_kms(key=old, endpoint_url=moto.url).generate(CONTEXT)
    with pytest.raises(KeyNotFound, match=old) as caught:
        await open_kms(key=new, endpoint_url=moto.url).unwrap(made.wrapped, made.key, CONTEXT)
    assert caught.value.field == "secrets.kms.compatible"
    assert caught.value.retryable
    for rules in ({"compatible": (old,)}, {"compatible": (f"{old}:1",)}, {"allow_any_key": True}):
        allowed = open_kms(key=new, endpoint_url=moto.url, **rules)
        assert await allowed.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext


async def test_key_named_by_the_row_must_be_the_one_that_wrapped(moto: Moto, open_kms: Opener) -> None:
    one, other = moto.key(), moto.key()
    backend = open_kms(key=one, compatible=(other,), endpoint_url=moto.url)
    made = await backend.generate(CONTEXT)
    with pytest.raises(CannotOpen):
        await backend.unwrap(made.wrapped, KeyRef("kms", other, 1), CONTEXT)


async def test_moved_alias_is_noticed_by_a_process_that_only_reads(moto: Moto, open_kms: Opener) -> None:
    """P54b: what a process that learned of the new key first has written becomes readable without a restart."""
    old, new = moto.key(alias="alias/moving"), moto.key()
    reader = open_kms(key="alias/moving", compatible=(old,), endpoint_url=moto.url)
    assert (await reader.check()).key_id == old
    moto.client().update_alias(AliasName="alias/moving", TargetKeyId=new)
    made = await open_kms(key="alias/moving", endpoint_url=moto.url).generate(CONTEXT)
    assert made.key.key_id == new
    assert await reader.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext


async def test_rewrap_moves_data_keys_to_where_the_alias_points_now(moto: Moto, open_kms: Opener) -> None:
    """P54"""
    old, new = moto.key(alias="alias/rotated"), moto.key()
    backend = open_kms(key="alias/rotated", compatible=(old, new), endpoint_url=moto.url)
    made = [await backend.generate(CONTEXT) for _ in range(25)]
    moto.client().update_alias(AliasName="alias/rotated", TargetKeyId=new)
    moved = await backend.rewrap([WrappedKey(wrapped=key.wrapped, key=key.key, context=CONTEXT) for key in made])
    for before, after in zip(made, moved, strict=True):
        assert isinstance(after, WrappedKey)
        assert (before.key.key_id, after.key.key_id) == (old, new)
        assert await backend.unwrap(after.wrapped, after.key, CONTEXT) == before.plaintext


async def test_sealed_record_opens_and_moved_record_does_not(moto: Moto, open_kms: Opener) -> None:
    """P50"""
    old, new = moto.key(), moto.key()
    sealer = Sealer(open_kms(key=old, endpoint_url=moto.url), store_id="s", clock=SystemClock())
    sealed = await sealer.seal(b"token", BINDING)
    assert (await sealer.open(sealed, BINDING)).reveal() == b"token"
    with pytest.raises(CannotOpen):
        await sealer.open(sealed, attrs.evolve(BINDING, record_id="r-2"))
    sealer.forget()
    with pytest.raises(CannotOpen):
        await sealer.open(sealed, attrs.evolve(BINDING, scope=Scope("user", "u2")))
    backend = open_kms(key=new, compatible=(old,), endpoint_url=moto.url)
    after = Sealer(backend, store_id="s", clock=SystemClock())
    row = SealedRow(
        kind="credential", id="1", provider_id="github", scope=BINDING.scope, record_id="r-1", sealed=sealed
    )
    (moved,) = await after.rewrap([row])
    assert not isinstance(moved, Exception)
    assert moved.key == KeyRef("kms", new, 1)
    assert (await after.open(moved, BINDING)).reveal() == b"token"


async def test_key_of_another_region_is_asked_there_and_moved_from_there(moto: Moto, open_kms: Opener) -> None:
    old, new = moto.key(region=AWAY), moto.key()
    made = await open_kms(key=old, region=AWAY, endpoint_url=moto.url).generate(CONTEXT)
    alone = open_kms(key=new, compatible=(old,), endpoint_url=moto.url)
    with pytest.raises(KeyNotFound, match=r"secrets\.kms\.endpoints"):
        await alone.unwrap(made.wrapped, made.key, CONTEXT)
    both = open_kms(key=new, compatible=(old,), endpoint_url=moto.url, endpoints=(f"{AWAY}={moto.url}",))
    assert await both.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    (moved,) = await both.rewrap([WrappedKey(wrapped=made.wrapped, key=made.key, context=CONTEXT)])
    assert isinstance(moved, WrappedKey)
    assert moved.key.key_id == new
    assert await alone.unwrap(moved.wrapped, moved.key, CONTEXT) == made.plaintext


@pytest.mark.parametrize("size", [0, 16, 31, 33])
async def test_only_data_keys_of_32_bytes_are_wrapped(moto: Moto, open_kms: Opener, size: int) -> None:
    with pytest.raises(KeyInvalid):
        await open_kms(key=moto.key(), endpoint_url=moto.url).wrap(SecretBytes(bytes(size)), CONTEXT)


async def test_ciphertext_that_kms_would_not_take_is_refused_here(moto: Moto, open_kms: Opener) -> None:
    backend = open_kms(key=moto.key(), endpoint_url=moto.url)
    key = await backend.check()
    for wrapped in (b"", bytes(6145)):
        with pytest.raises(CannotOpen):
            await backend.unwrap(wrapped, key, CONTEXT)
        (answer,) = await backend.rewrap([WrappedKey(wrapped=wrapped, key=key, context=CONTEXT)])
        assert isinstance(answer, CannotOpen)


async def test_nothing_secret_is_logged_at_any_level(
    moto: Moto, open_kms: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """boto3 logs whole requests and answers at the level DEBUG: data keys in base64, and session tokens."""
    caplog.set_level(logging.DEBUG)
    token = "session-token-that-must-not-be-logged"
    arn = moto.key()
    backend = open_kms(key=arn, endpoint_url=moto.url, session_token=SecretStr(token))
    made = await backend.generate(CONTEXT)
    await backend.unwrap(made.wrapped, made.key, CONTEXT)
    brought = SecretBytes(bytes(range(50, 82)))
    await backend.wrap(brought, CONTEXT)
    await backend.rewrap([WrappedKey(wrapped=made.wrapped, key=made.key, context=CONTEXT)])
    ours = [record.getMessage() for record in caplog.records if record.threadName.startswith("go-services-kms")]
    assert ours, "boto3 logged nothing: this test proves nothing"
    assert "secret-access-key" not in caplog.text
    assert token not in caplog.text
    for key in (made.plaintext, brought):
        raw = key.reveal()
        for text in (raw.hex(), base64.b64encode(raw).decode(), repr(raw)[2:-1]):
            assert text not in caplog.text
    caplog.clear()
    moto.client().describe_key(KeyId=arn)
    assert any(record.name == "botocore.parsers" for record in caplog.records), "another user of boto3 was silenced"


async def test_no_traceback_holds_what_was_sent(moto: Moto, open_kms: Opener) -> None:
    backend = open_kms(key="alias/none-such", endpoint_url=moto.url)
    brought = SecretBytes(bytes(range(50, 82)))
    with pytest.raises(KeyNotFound) as caught:
        await backend.wrap(brought, CONTEXT)
    assert caught.value.__context__ is None
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(report.format())
    assert "plaintext = SecretBytes" in shown, "no locals: this test proves nothing"
    raw = brought.reveal()
    for text in (raw.hex(), base64.b64encode(raw).decode(), repr(raw)[2:-1], "stub-secret-access-key"):
        assert text not in shown


async def test_backend_cannot_be_copied_or_printed(moto: Moto, open_kms: Opener) -> None:
    backend: Any = open_kms(key="alias/x", endpoint_url=moto.url)
    assert repr(backend) == "KmsBackend('alias/x')"
    for escape in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            escape(backend)
