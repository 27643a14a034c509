"""Changing a keyring: adding, rotating and retiring keys, and keys from passphrases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from attrs import evolve

from go_services_core.errors import (
    ConfigError,
    Conflict,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
)
from go_services_core.model import Scope, Sealed
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.wrapping_keys import SealedRow
from go_services_envelope import Sealer
from go_services_envelope.policy import KeyWindow
from go_services_secrets_appkey.key import generate_key
from go_services_secrets_appkey.keyring import parse

from .conftest import PASSPHRASE, Ring
from .texts import BINDING, CONTEXT, FROM_PASSPHRASE, entry

# --- changing keys ---------------------------------------------------------------------------------------------------


async def test_key_goes_from_decrypt_only_to_primary_to_retired(ring: Ring) -> None:
    """P54: added, made primary, rows wrapped anew, retired; each step leaves what was sealed readable."""
    backend = ring.opened()
    first = await backend.add_key()
    assert first.state == "primary", "the first key of a new keyring"
    sealer = Sealer(backend, store_id="s", clock=ring.clock)
    old = await sealer.seal(b"token", BINDING)

    second = await backend.add_key()
    assert second.state == "decrypt-only"
    assert (await backend.generate(CONTEXT)).key == first.key
    assert await backend.rotate() == (first.key, second.key)
    assert (await backend.generate(CONTEXT)).key == second.key
    assert [(key.key, key.state) for key in await backend.keys()] == [
        (second.key, "primary"),
        (first.key, "decrypt-only"),
    ]
    assert await sealer.open(old, BINDING) == SecretBytes(b"token")

    row = SealedRow(
        kind="credential", id="1", provider_id="github", scope=Scope("user", "u1"), record_id="r-1", sealed=old
    )
    (new,) = await sealer.rewrap([row])
    assert isinstance(new, Sealed)
    assert new.key == second.key
    assert "was taken out of" in await backend.retire(first.key)
    sealer.forget()
    assert await sealer.open(new, BINDING) == SecretBytes(b"token")
    with pytest.raises(KeyDisabled, match=r"was retired on 2026-01-01"):
        await sealer.open(old, BINDING)
    assert [key.state for key in await backend.keys()] == ["primary", "retired"]


async def test_retired_key_leaves_no_material_in_the_file(ring: Ring) -> None:
    backend = ring.opened()
    first = await backend.add_key()
    material = parse(SecretStr(ring.text()), ring.path).primary.key
    assert isinstance(material, SecretStr)
    await backend.add_key()
    await backend.rotate()
    assert material.reveal() in ring.text()
    await backend.retire(first.key)
    assert material.reveal() not in "".join(path.read_text() for path in ring.path.parent.iterdir())
    assert "was retired before" in await backend.retire(first.key)


async def test_retiring_a_reference_says_that_the_secret_is_still_there(ring: Ring) -> None:
    ring.secrets["file:old.key"] = generate_key().reveal()
    ring.write(f'[[keys]]\nstate = "decrypt-only"\nfrom = "file:old.key"\n{entry("primary", generate_key().reveal())}')
    backend = ring.opened()
    _, old = await backend.keys()
    assert "What file:old.key leads to is still there" in await backend.retire(old.key)
    assert "file:old.key" not in ring.text()


async def test_primary_key_is_not_retired(ring: Ring) -> None:
    backend = ring.opened()
    key = (await backend.add_key()).key
    before = ring.text()
    with pytest.raises(Conflict, match=key.key_id):
        await backend.retire(key)
    for missing in (evolve(key, key_version=2), evolve(key, key_id="x"), evolve(key, backend="vault")):
        with pytest.raises(KeyNotFound):
            await backend.retire(missing)
    assert ring.text() == before


async def test_rotate_without_a_newer_key_is_refused_and_never_goes_back_by_itself(ring: Ring) -> None:
    backend = ring.opened()
    first = (await backend.add_key()).key
    with pytest.raises(KeyNotFound, match="No key is newer"):
        await backend.rotate()
    second = (await backend.add_key()).key
    third = (await backend.add_key()).key
    assert await backend.rotate() == (first, third), "the newest"
    with pytest.raises(KeyNotFound, match="No key is newer"):
        await backend.rotate()
    assert await backend.rotate(to=second.key_id) == (third, second)
    assert await backend.rotate(to=f"{first.key_id}:1") == (second, first), "back, but by name"
    with pytest.raises(Conflict, match="primary key already"):
        await backend.rotate(to=first.key_id)
    with pytest.raises(KeyNotFound, match="no key nonsense"):
        await backend.rotate(to="nonsense")
    await backend.retire(second)
    with pytest.raises(KeyDisabled, match="retired"):
        await backend.rotate(to=second.key_id)
    assert await backend.check() == first


async def test_key_outside_its_window_does_not_become_primary(ring: Ring) -> None:
    await ring.opened().add_key()
    added = (await ring.opened().add_key()).key
    window = KeyWindow(key=added.key_id, encrypt_from=datetime(2027, 1, 1, tzinfo=UTC))
    backend = ring.opened(windows=(window,))
    with pytest.raises(KeyDisabled, match="encrypt window begins"):
        await backend.rotate()
    _, info = await backend.keys()
    assert "encrypt window begins on 2027-01-01, in 365 days" in info.warnings
    assert (await backend.check()) != added


async def test_window_of_a_key_that_is_not_in_the_keyring_is_told(ring: Ring) -> None:
    backend = ring.opened(windows=(KeyWindow(key="app-key-typo"),))
    await backend.add_key()
    (info,) = await backend.keys()
    assert info.warnings == ("a window names app-key-typo, which is not in the keyring",)


async def test_dry_run_says_what_would_happen_and_changes_nothing(ring: Ring) -> None:
    backend = ring.opened()
    would = await backend.add_key(dry_run=True)
    assert (would.key.key_id, would.state, would.detail) == ("app-key-…", "primary", "keys.toml")
    assert list(ring.path.parent.iterdir()) == []

    first = (await backend.add_key()).key
    second = (await backend.add_key()).key
    before = ring.path.read_bytes(), ring.path.stat().st_ino
    assert (await backend.add_key(dry_run=True)).state == "decrypt-only"
    assert await backend.rotate(dry_run=True) == (first, second)
    assert "was taken out of" in await backend.retire(second, dry_run=True)
    assert (ring.path.read_bytes(), ring.path.stat().st_ino) == before
    assert await backend.check() == first


async def test_keyring_with_comments_is_read_but_not_edited(ring: Ring) -> None:
    ring.write(f"# the office has a copy\n{entry('primary', generate_key().reveal())}")
    backend = ring.opened()
    key = await backend.check()
    before = ring.text()
    for call in (backend.add_key(), backend.rotate(), backend.retire(key), backend.add_key(dry_run=True)):
        with pytest.raises(ConfigError, match="has comments"):
            await call
    assert ring.text() == before


async def test_broken_keyring_is_not_edited(ring: Ring) -> None:
    backend = ring.opened()
    await backend.add_key()
    ring.write(ring.text() + "surprise = 1\n")
    before = ring.text()
    with pytest.raises(KeyInvalid, match="surprise"):
        await backend.add_key()
    assert ring.text() == before


async def test_change_while_another_process_changes_is_refused(ring: Ring) -> None:
    from go_services_secrets_appkey.keyring_file import KeyringFile

    backend = ring.opened()
    await backend.add_key()
    with KeyringFile(ring.path).locked(), pytest.raises(Conflict, match="being changed"):
        await backend.add_key()
    await backend.add_key()


async def test_changes_at_once_lose_none(ring: Ring) -> None:
    await ring.opened().add_key()
    done = await asyncio.gather(*(ring.opened().add_key() for _ in range(20)), return_exceptions=True)
    made = [info for info in done if not isinstance(info, BaseException)]
    assert all(isinstance(error, Conflict) for error in done if isinstance(error, BaseException))
    assert made
    assert {info.key for info in made} <= {info.key for info in await ring.opened().keys()}


# --- passphrases -----------------------------------------------------------------------------------------------------


async def test_derivation_is_improved_without_entering_a_secret_again(ring: Ring) -> None:
    """P56: a key of the same passphrase with today's parameters takes over, and the rows move to it."""
    ring.write(FROM_PASSPHRASE)
    backend = ring.opened(passphrase_from="env:PASSPHRASE")
    sealer = Sealer(backend, store_id="s", clock=ring.clock)
    old = await sealer.seal(b"token", BINDING)
    (weak,) = await backend.keys()
    assert "weaker parameters" in weak.warnings[0]

    added = await backend.add_key()
    assert added.key != weak.key
    assert added.detail == "keys.toml, passphrase, scrypt n=131072 r=8 p=1"
    assert not added.warnings
    assert PASSPHRASE not in ring.text()
    await backend.rotate()
    row = SealedRow(
        kind="credential", id="1", provider_id="github", scope=Scope("user", "u1"), record_id="r-1", sealed=old
    )
    (new,) = await sealer.rewrap([row])
    assert isinstance(new, Sealed)
    assert "What env:PASSPHRASE leads to is still there" in await backend.retire(weak.key)

    restarted = ring.opened()
    assert await restarted.check() == new.key == added.key
    assert await Sealer(restarted, store_id="s", clock=ring.clock).open(new, BINDING) == SecretBytes(b"token")


@pytest.mark.parametrize(("value", "words"), [("short", "at least 20"), (f"{PASSPHRASE} ", "mangled"), (None, "leads")])
async def test_key_is_not_made_from_a_bad_passphrase(ring: Ring, value: str | None, words: str) -> None:
    ring.secrets.pop("env:PASSPHRASE")
    if value is not None:
        ring.secrets["env:PASSPHRASE"] = value
    with pytest.raises(KeyInvalid, match=words) as caught:
        await ring.opened(passphrase_from="env:PASSPHRASE").add_key()
    assert caught.value.field == "secrets.appkey.passphrase_from"
    assert not ring.path.exists()
