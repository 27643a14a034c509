"""Envelopes that the Go system sealed by KMS itself: read when that is switched on, never written."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from go_services_core.errors import CannotOpen, KeyDisabled, KeyNotFound, SecretError
from go_services_core.sealing import GoEnvelope, GoEnvelopeReader

from .conftest import Moto, Opener
from .kms_stub import KmsStub

META = {"service": "billing"}


def sealed(moto: Moto, key_id: str, **options: Any) -> GoEnvelope:
    """What the Go system wrote: the credential itself under the key, its metadata as context."""
    made = moto.client().encrypt(KeyId=key_id, Plaintext=b'{"access_token":"t"}', EncryptionContext=META)
    return GoEnvelope(
        **{
            "key_id": key_id,
            "key_version": 3,
            "algorithm": "kms",
            "ciphertext": made["CiphertextBlob"],
            "metadata": META,
            **options,
        }
    )


async def test_envelope_opens_when_it_is_switched_on_and_its_key_is_listed(moto: Moto, open_kms: Opener) -> None:
    arn = moto.key(alias="alias/go")
    for key_id, listed in (("alias/go", "alias/go:3"), ("alias/go", "alias/go"), (arn, f"{arn}:3"), (arn, arn)):
        backend = open_kms(key=moto.key(), endpoint_url=moto.url, go_envelopes=True, compatible=(listed,))
        assert isinstance(backend, GoEnvelopeReader)
        assert (await backend.open_go(sealed(moto, key_id))).reveal() == b'{"access_token":"t"}'
    own = open_kms(key=arn, endpoint_url=moto.url, go_envelopes=True)
    assert (await own.open_go(sealed(moto, arn))).reveal() == b'{"access_token":"t"}'
    moto.client().delete_alias(AliasName="alias/go")


@pytest.mark.parametrize(
    ("options", "change", "expected"),
    [
        ({"go_envelopes": False}, {}, CannotOpen),
        ({"go_envelopes": False}, {"algorithm": "aes-256-gcm"}, KeyNotFound),
        ({}, {"prefixed": False}, CannotOpen),
        ({}, {"algorithm": "vault"}, KeyNotFound),
        ({}, {"algorithm": "aes-256-gcm"}, KeyNotFound),
        ({}, {"metadata": {}}, CannotOpen),
        ({}, {"metadata": {"service": "other"}}, CannotOpen),
        ({}, {"ciphertext": b""}, CannotOpen),
        ({}, {"ciphertext": bytes(64)}, CannotOpen),
        ({}, {"key_id": "alias/other"}, KeyNotFound),
        ({"compatible": ("some-name",)}, {"key_id": "some-name"}, KeyNotFound),
    ],
)
async def test_anything_else_is_refused(
    moto: Moto, open_kms: Opener, options: dict[str, Any], change: dict[str, Any], expected: type[SecretError]
) -> None:
    arn = moto.key()
    backend = open_kms(**{"key": arn, "endpoint_url": moto.url, "go_envelopes": True, **options})
    with pytest.raises(expected):
        await backend.open_go(attrs.evolve(sealed(moto, arn), **change))


async def test_version_that_is_not_listed_is_refused(moto: Moto, open_kms: Opener) -> None:
    arn = moto.key()
    backend = open_kms(key=moto.key(), endpoint_url=moto.url, go_envelopes=True, compatible=(f"{arn}:2",))
    with pytest.raises(KeyNotFound, match="version 3"):
        await backend.open_go(sealed(moto, arn))


async def test_disabled_key_does_not_open_it(home: KmsStub, open_kms: Opener) -> None:
    key = home.add_key("11111111-2222-3333-4444-555555555555")
    key.state = "Disabled"
    envelope = GoEnvelope(key_id=key.arn, key_version=1, algorithm="kms", ciphertext=bytes(64))
    with pytest.raises(KeyDisabled):
        await open_kms(key=key.arn, endpoint_url=home.url, go_envelopes=True).open_go(envelope)


async def test_data_key_of_ours_does_not_open_as_an_envelope_of_theirs(moto: Moto, open_kms: Opener) -> None:
    """No downgrade: the context of our data keys is not in anybody's metadata unless it is put there."""
    arn = moto.key()
    backend = open_kms(key=arn, endpoint_url=moto.url, go_envelopes=True)
    made = await backend.generate(bytes(32))
    with pytest.raises(CannotOpen):
        await backend.open_go(GoEnvelope(key_id=arn, key_version=1, algorithm="kms", ciphertext=made.wrapped))
