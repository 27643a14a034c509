"""What the command shows of keys and changes in them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from go_services_core.errors import CapabilityUnsupported, Conflict, KeyDenied, KeyDisabled, KeyInvalid, KeyNotFound
from go_services_core.model import KeyRef
from go_services_core.sealing import KeyLifecycle
from go_services_core.testing.clock import FrozenClock
from go_services_envelope.policy import KeyWindow
from go_services_secrets_kms.backend import KmsBackend

from .conftest import Moto, Opener
from .kms_stub import KmsStub, Refusal

CONTEXT = bytes(32)
PRIMARY, OLD, LOST = (f"{digit * 8}-2222-3333-4444-555555555555" for digit in "123")
MRK = "mrk-" + "1" * 32


@pytest.fixture
def backend(home: KmsStub, open_kms: Opener) -> KmsBackend:
    home.add_key(PRIMARY, alias="alias/app")
    return open_kms(key="alias/app", endpoint_url=home.url, compatible=(home.add_key(OLD).arn,), max_attempts=1)


async def test_keys_are_shown_with_alias_and_state(home: KmsStub, backend: KmsBackend) -> None:
    assert isinstance(backend, KeyLifecycle)
    primary, old = await backend.keys()
    assert primary.key == KeyRef("kms", home.aliases["alias/app"], 1)
    assert (primary.state, old.state) == ("primary", "decrypt-only")
    assert primary.detail.startswith("alias/app, AWS KMS")
    assert "need no rewrap" in primary.detail
    assert primary.warnings == old.warnings == ()


async def test_deletion_and_other_states_are_warnings(home: KmsStub, backend: KmsBackend) -> None:
    old = home.keys[(await backend.keys())[1].key.key_id]
    old.state, old.deletion = "PendingDeletion", datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    (_, shown) = await backend.keys()
    assert shown.state == "pending-deletion"
    assert "2027-01-31" in shown.warnings[0]
    old.state, old.deletion = "PendingReplicaDeletion", None
    assert "replicas" in (await backend.keys())[1].warnings[0]
    home.keys[home.aliases["alias/app"]].state = "Disabled"
    (primary, _) = await backend.keys()
    assert (primary.state, primary.warnings) == ("disabled", ("its state in AWS is Disabled",))


async def test_compatible_key_that_cannot_be_told_is_listed_with_the_reason(
    home: KmsStub, backend: KmsBackend, open_kms: Opener
) -> None:
    lost = home.aliases["alias/app"].replace(PRIMARY, LOST)
    denied = home.add_key(OLD)
    denied.denied = "DescribeKey"
    shown = await open_kms(key="alias/app", endpoint_url=home.url, compatible=(lost, denied.arn)).keys()
    assert [info.state for info in shown] == ["primary", "disabled", "disabled"]
    assert "NotFoundException" in shown[1].warnings[0]
    assert "kms:DescribeKey" in shown[2].warnings[0]
    home.keys[home.aliases["alias/app"]].denied = "DescribeKey"
    with pytest.raises(KeyDenied):
        await backend.keys()


async def test_windows_warn_in_time(home: KmsStub, open_kms: Opener) -> None:
    key = home.add_key(MRK)
    ending = KeyWindow(key=key.arn, encrypt_until=datetime(2027, 1, 5, tzinfo=UTC))
    clock = FrozenClock(datetime(2027, 1, 1, tzinfo=UTC))
    (primary,) = await open_kms(clock, key=key.arn, endpoint_url=home.url, windows=(ending,)).keys()
    assert "encrypt window ends on 2027-01-05" in primary.warnings[0]
    assert "multi-Region" in primary.detail


async def test_rotate_makes_new_material_and_keeps_the_reference(home: KmsStub, backend: KmsBackend) -> None:
    """P54"""
    made = await backend.generate(CONTEXT)
    key = home.keys[made.key.key_id]
    assert await backend.rotate(dry_run=True) == (made.key, made.key)
    assert key.rotations == 0
    assert await backend.rotate() == (made.key, made.key)
    assert await backend.rotate(to=made.key.key_id) == (made.key, made.key)
    assert key.rotations == 2
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext


async def test_rotation_that_kms_does_not_do_is_typed(home: KmsStub, backend: KmsBackend) -> None:
    key = home.keys[(await backend.check()).key_id]
    key.rotations = 10
    with pytest.raises(Conflict, match="LimitExceededException"):
        await backend.rotate()
    key.rotations = 0
    key.denied = "RotateKeyOnDemand"
    with pytest.raises(KeyDenied, match="kms:RotateKeyOnDemand"):
        await backend.rotate()
    key.state = "Disabled"
    with pytest.raises(KeyDisabled):
        await backend.rotate(dry_run=True)
    key.state, key.denied = "Enabled", None
    describe, imported = home.do_DescribeKey, Refusal(400, "UnsupportedOperationException")

    def then_refuse(body: dict[str, object]) -> dict[str, object]:
        home.always = imported
        return describe(body)

    home.do_DescribeKey = then_refuse  # type: ignore[method-assign]
    with pytest.raises(KeyInvalid):
        await backend.rotate()


async def test_rotation_reaches_the_real_operation(moto: Moto, open_kms: Opener) -> None:
    arn = moto.key()
    await open_kms(key=arn, endpoint_url=moto.url).rotate()
    assert len(moto.client().list_key_rotations(KeyId=arn)["Rotations"]) == 1


async def test_what_is_done_in_aws_says_how(home: KmsStub, backend: KmsBackend) -> None:
    primary, old = await backend.keys()
    with pytest.raises(CapabilityUnsupported, match="create-key"):
        await backend.add_key()
    with pytest.raises(CapabilityUnsupported, match="update-alias"):
        await backend.rotate(to=old.key.key_id)
    with pytest.raises(CapabilityUnsupported, match="disable-key"):
        await backend.retire(old.key)
    with pytest.raises(Conflict):
        await backend.retire(primary.key)
    for unknown in (KeyRef("kms", LOST, 1), KeyRef("other", old.key.key_id, 1), KeyRef("other", primary.key.key_id, 1)):
        with pytest.raises(KeyNotFound):
            await backend.retire(unknown)
    assert all(key.rotations == 0 for key in home.keys.values())
