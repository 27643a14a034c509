"""Envelopes of the Go system: who reads the algorithm opens them, and nobody else is tried."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from go_services_core.errors import BackendUnavailable, CannotOpen, KeyDenied, KeyDisabled, KeyNotFound
from go_services_core.sealing import GoEnvelope
from go_services_core.secret import SecretBytes
from go_services_secrets_failover.backend import CircuitOpen

from .members import Local, Pair, Switched, app_key


def go_envelope(member, algorithm):
    sealed = AESGCM(member.go_key).encrypt(bytes(12), b"token", None)
    return GoEnvelope(key_id="app-key", key_version=1, algorithm=algorithm, nonce=bytes(12), ciphertext=sealed)


async def test_go_envelope_is_opened_by_the_member_that_reads_its_algorithm():
    pair = Pair(primary=Local("near", go_algorithm="kms"), fallback=Local("far", go_algorithm="aes-256-gcm"))
    for member, algorithm in ((pair.primary, "kms"), (pair.fallback, "aes-256-gcm")):
        assert await pair.backend.open_go(go_envelope(member, algorithm)) == SecretBytes(b"token")
    assert pair.primary.switch.calls == pair.fallback.switch.calls == ["open_go"]


@pytest.mark.parametrize("failure", [BackendUnavailable, KeyDenied, KeyDisabled, CannotOpen])
async def test_go_envelope_that_its_reader_refuses_is_not_tried_with_the_other(failure):
    """P55."""
    pair = Pair(primary=Local("near", go_algorithm="aes-256-gcm"), fallback=Local("far", go_algorithm="aes-256-gcm"))
    pair.primary.switch.error = failure("no")
    with pytest.raises(failure):
        await pair.backend.open_go(go_envelope(pair.fallback, "aes-256-gcm"))
    assert pair.fallback.switch.calls == []


async def test_go_envelope_of_the_fallback_opens_while_the_circuit_is_open():
    pair = Pair(
        primary=Local("near", go_algorithm="kms"),
        fallback=Local("far", go_algorithm="aes-256-gcm"),
        failures_to_open=1,
    )
    pair.primary.switch.error = BackendUnavailable("off")
    with pytest.raises(BackendUnavailable, match="off"):
        await pair.backend.open_go(go_envelope(pair.primary, "kms"))
    assert await pair.backend.open_go(go_envelope(pair.fallback, "aes-256-gcm")) == SecretBytes(b"token")
    with pytest.raises(CircuitOpen):
        await pair.backend.open_go(go_envelope(pair.primary, "kms"))


async def test_go_envelope_that_nobody_reads_names_algorithm_and_key():
    silent = Switched(app_key())
    pair = Pair(primary=silent, fallback=Local("far", go_algorithm="kms"))
    with pytest.raises(KeyNotFound, match=r"'vault'.*'app-key'.*far does not read vault"):
        await pair.backend.open_go(go_envelope(pair.fallback, "vault"))
    await silent.aclose()
