"""The backend over a keyring: conformance, what is refused, reading again, and changing keys."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    ConfigError,
    Conflict,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import Binding, KeyRef, Scope, Sealed, SealedRow
from go_services_core.protocols import GoEnvelopeReader, KeyLifecycle, WrappedKey
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.testing.pytest_kit import SecretBackendKit
from go_services_envelope import Sealer
from go_services_envelope.policy import KeyWindow
from go_services_secrets_appkey.backend import AppKeyBackend
from go_services_secrets_appkey.key import generate_key, parse_key
from go_services_secrets_appkey.keyring import parse
from go_services_secrets_appkey.keyring_backend import KeyringBackend
from go_services_secrets_appkey.passphrase import ScryptParameters, derive_key
from go_services_secrets_appkey.wrapping import WrappingKey

from .conftest import PASSPHRASE, Ring

CONTEXT = bytes(32)
BINDING = Binding(purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1")
WEAK = ScryptParameters(n=1 << 14, r=8, p=5, salt=bytes(range(16)))
"""As strong as the cheat sheet's cheapest row, and weaker than today's."""


def derived(passphrase: str = PASSPHRASE) -> WrappingKey:
    return WrappingKey(derive_key(SecretStr(passphrase), WEAK, field="f"))


FINGERPRINT = derived().fingerprint
FROM_PASSPHRASE = (
    '[[keys]]\nstate = "primary"\npassphrase = "env:PASSPHRASE"\n'
    f'fingerprint = "{FINGERPRINT}"\n'
    'kdf = { name = "scrypt", n = 16384, r = 8, p = 5, salt = "AAECAwQFBgcICQoLDA0ODw==" }\n'
)


def id_of(text: str) -> str:
    return WrappingKey(parse_key(SecretStr(text), field="key")).key_id


def entry(state: str, text: str, more: str = "") -> str:
    return f'[[keys]]\nstate = "{state}"\nkey = "{text}"\n{more}'


class TestKeyring(SecretBackendKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[AppKeyBackend]:
        with tempfile.TemporaryDirectory() as folder:
            backend = Ring(Path(folder)).opened()
            await backend.add_key()
            await backend.add_key()
            await backend.rotate()
            yield backend
            await backend.aclose()


class TestKeyringWithPassphrase(SecretBackendKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[AppKeyBackend]:
        with tempfile.TemporaryDirectory() as folder:
            ring = Ring(Path(folder))
            ring.write(FROM_PASSPHRASE)
            backend = ring.opened()
            yield backend
            await backend.aclose()


# --- what a keyring may say ------------------------------------------------------------------------------------------


async def test_key_may_come_from_the_file_a_reference_or_a_passphrase(ring: Ring) -> None:
    inline, env, file = (generate_key().reveal() for _ in range(3))
    ring.secrets |= {"env:KEY": env, "file:app.key": file}
    ring.write(
        entry("primary", inline)
        + '[[keys]]\nstate = "decrypt-only"\nfrom = "env:KEY"\n[[keys]]\nstate = "decrypt-only"\nfrom = "file:app.key"\n'
        + FROM_PASSPHRASE.replace("primary", "decrypt-only")
    )
    keys = await ring.opened().keys()
    assert [key.key.key_id for key in keys] == [id_of(inline), id_of(env), id_of(file), f"app-key-{FINGERPRINT}"]
    assert [key.detail for key in keys] == [
        "keys.toml",
        "keys.toml, from env:KEY",
        "keys.toml, from file:app.key",
        "keys.toml, passphrase, scrypt n=16384 r=8 p=5",
    ]
    assert {key.key.key_version for key in keys} == {1}


async def test_backend_offers_what_the_command_and_the_adoption_ask_for(ring: Ring) -> None:
    backend = ring.opened()
    assert isinstance(backend, KeyLifecycle)
    assert isinstance(backend, GoEnvelopeReader)


async def test_keys_of_one_id_are_told_apart_by_their_version(ring: Ring) -> None:
    """P54c: the reference in the envelope chooses the key, and no other is tried."""
    first, second = generate_key().reveal(), generate_key().reveal()
    ring.write(entry("primary", first, 'id = "prod"\n'))
    old = await ring.opened().generate(CONTEXT)
    ring.write(entry("decrypt-only", first, 'id = "prod"\n') + entry("primary", second, 'id = "prod"\nversion = 2\n'))
    backend = ring.opened()
    new = await backend.generate(CONTEXT)
    assert (old.key, new.key) == (KeyRef("appkey", "prod", 1), KeyRef("appkey", "prod", 2))
    assert await backend.unwrap(old.wrapped, old.key, CONTEXT) == old.plaintext
    with pytest.raises(CannotOpen):
        await backend.unwrap(old.wrapped, new.key, CONTEXT)


async def test_key_that_moves_from_the_settings_into_a_keyring_still_opens_its_rows(ring: Ring) -> None:
    from go_services_core.clock import SystemClock
    from go_services_core.protocols import PluginEnv
    from go_services_secrets_appkey.backend import open_backend
    from go_services_secrets_appkey.settings import AppKeySettings

    text = generate_key()
    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
    before = open_backend(AppKeySettings(key=text), env)
    sealed = await Sealer(before, store_id="s", clock=ring.clock).seal(b"token", BINDING)

    ring.secrets["file:go-services.key"] = text.reveal()
    ring.write('[[keys]]\nstate = "primary"\nfrom = "file:go-services.key"\n')
    after = ring.opened()
    assert await Sealer(after, store_id="s", clock=ring.clock).open(sealed, BINDING) == SecretBytes(b"token")
    await after.add_key()
    assert f'id = "{id_of(text.reveal())}"' in ring.text(), "the command fills in what a person left out"
    assert await ring.opened().check() == await before.check()


@pytest.mark.parametrize(
    ("reference", "value", "words"),
    [
        ("env:KEY", None, "leads to nothing: env:KEY is not set"),
        ("env:KEY", "changeme", "does not begin with"),
        ("env:KEY", "{}\n", "line break"),
        ("env:KEY", "{} ", "has a space"),
    ],
)
async def test_key_that_is_missing_weak_or_mangled_stops_the_start_by_name(
    ring: Ring, reference: str, value: str | None, words: str
) -> None:
    """P52: also where the key is only for decryption."""
    text = generate_key().reveal()
    if value is not None:
        ring.secrets[reference] = value.format(text)
    ring.write(
        entry("primary", generate_key().reveal())
        + f'[[keys]]\nid = "old"\nstate = "decrypt-only"\nfrom = "{reference}"\n'
    )
    with pytest.raises(KeyInvalid, match=words) as caught:
        await ring.opened().check()
    assert "'from' of key old:1 in keys.toml" in str(caught.value)
    assert text not in str(caught.value)


async def test_wrong_material_is_recognised_by_the_fingerprint(ring: Ring) -> None:
    ring.secrets["env:KEY"] = generate_key().reveal()
    for wrong in ('id = "prod"\nfingerprint = "00000000"\n', 'id = "app-key-00000000"\n'):
        ring.write(f'[[keys]]\nstate = "primary"\nfrom = "env:KEY"\n{wrong}')
        with pytest.raises(KeyInvalid, match=r"gives the fingerprint \w{8} instead of 00000000") as caught:
            await ring.opened().check()
        assert "in keys.toml" in str(caught.value.field)


async def test_wrong_passphrase_is_recognised_before_anything_is_sealed(ring: Ring) -> None:
    """P52: a passphrase with a typing error makes no key."""
    ring.secrets["env:PASSPHRASE"] = PASSPHRASE.replace("otter", "otters")
    ring.write(FROM_PASSPHRASE)
    with pytest.raises(KeyInvalid, match="another key or passphrase") as caught:
        await ring.opened().generate(CONTEXT)
    assert PASSPHRASE[:12] not in str(caught.value)


async def test_passphrase_that_stands_in_the_keyring_itself_is_refused(ring: Ring) -> None:
    ring.secrets[PASSPHRASE] = PASSPHRASE  # as where the settings allow plain text
    ring.write(FROM_PASSPHRASE.replace("env:PASSPHRASE", PASSPHRASE))
    with pytest.raises(KeyInvalid, match="not a reference") as caught:
        await ring.opened().check()
    assert PASSPHRASE not in str(caught.value)


async def test_two_keys_with_one_name_are_refused_also_when_the_name_is_derived(ring: Ring) -> None:
    text = generate_key().reveal()
    ring.write(entry("primary", text) + entry("decrypt-only", text))
    with pytest.raises(KeyInvalid, match=f"key {id_of(text)}:1 twice"):
        await ring.opened().check()


async def test_readable_keyring_is_refused(ring: Ring) -> None:
    ring.write(entry("primary", generate_key().reveal()), mode=0o644)
    with pytest.raises(KeyInvalid, match="chmod 600"):
        await ring.opened().check()


async def test_missing_keyring_says_how_to_make_one(ring: Ring) -> None:
    for call in (ring.opened().check(), ring.opened().generate(CONTEXT), ring.opened().keys()):
        with pytest.raises(KeyNotFound, match=r"no keyring .*keys\.toml.*generate-key --add"):
            await call


async def test_passphrase_is_derived_once_and_off_the_loop(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from go_services_secrets_appkey import keyring_keys

    threads = []

    def counted(*args: object, **named: object) -> SecretBytes:
        threads.append(threading.current_thread())
        return derive_key(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(keyring_keys, "derive_key", counted)
    ring.write(FROM_PASSPHRASE)
    backend = ring.opened()
    await asyncio.gather(*(backend.generate(CONTEXT) for _ in range(20)))
    await backend.add_key()
    await backend.rotate()
    await backend.keys()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


# --- reading again ---------------------------------------------------------------------------------------------------


async def test_key_that_was_added_elsewhere_is_found_at_once(ring: Ring) -> None:
    """P54b: no restart, and no waiting for the next look."""
    a, b = ring.opened(), ring.opened()
    await a.add_key()
    await b.check()
    await a.add_key()
    await a.rotate()
    made = await a.generate(CONTEXT)
    assert await b.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext  # the clock stands still
    assert (await b.generate(CONTEXT)).key == made.key


async def test_key_that_has_not_arrived_is_reported_and_may_be_tried_again(ring: Ring, tmp_path: Path) -> None:
    """P54b: machines with files of their own."""
    there = Ring(tmp_path / "there")
    there.path.parent.mkdir()
    here = ring.opened()
    await here.add_key()
    there.write(ring.text())
    other = there.opened()
    await other.check()

    await here.add_key()
    await here.rotate()
    made = await here.generate(CONTEXT)
    asked = WrappedKey(wrapped=made.wrapped, key=made.key, context=CONTEXT)
    with pytest.raises(KeyNotFound, match=made.key.key_id) as caught:
        await other.unwrap(made.wrapped, made.key, CONTEXT)
    assert caught.value.retryable
    assert str(there.path) in str(caught.value)
    assert caught.value.field == "secrets.appkey.keyring"
    (answer,) = await other.rewrap([asked])
    assert isinstance(answer, KeyNotFound)

    there.write(ring.text())
    assert await other.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    (answer,) = await other.rewrap([asked])
    assert isinstance(answer, WrappedKey)


async def test_file_is_looked_at_once_a_second(ring: Ring) -> None:
    a, b = ring.opened(), ring.opened()
    await a.add_key()
    first = await b.check()
    await a.add_key()
    _, second = await a.rotate()
    ring.clock.advance(0.9)
    assert (await b.generate(CONTEXT)).key == first
    ring.clock.advance(0.1)
    assert (await b.generate(CONTEXT)).key == second


async def test_unchanged_file_is_not_read_again(ring: Ring) -> None:
    ring.secrets["env:KEY"] = generate_key().reveal()
    ring.write('[[keys]]\nstate = "primary"\nfrom = "env:KEY"\n')
    backend = ring.opened()
    for _ in range(5):
        await backend.generate(CONTEXT)
        ring.clock.advance(2)
        with pytest.raises(KeyNotFound):
            await backend.unwrap(b"", KeyRef("appkey", "unknown", 1), CONTEXT)
    assert ring.resolved == ["env:KEY"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda ring: ring.write(ring.text()[: len(ring.text()) // 2]),
        lambda ring: ring.write(""),
        lambda ring: ring.path.unlink(),
        lambda ring: ring.path.chmod(0o644),
        lambda ring: ring.write(ring.text() + '[[keys]]\nstate = "decrypt-only"\nfrom = "env:LATER"\n'),
        lambda ring: ring.write(ring.text().replace("gsk1_", "gsk1_x")),
    ],
    ids=["half", "empty", "gone", "readable", "reference", "mangled"],
)
async def test_broken_file_leaves_the_keys_as_they_were_and_is_told_once(
    ring: Ring, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    backend = ring.opened()
    await backend.add_key()
    key = await backend.check()
    made = await backend.generate(CONTEXT)
    good = ring.text()

    damage(ring)  # type: ignore[operator]
    for _ in range(5):
        ring.clock.advance(2)
        assert (await backend.generate(CONTEXT)).key == key
        assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "go_services.test")
    assert "keys.toml" in record.getMessage()
    with pytest.raises(SecretError, match=r"keys\.toml"):
        await backend.check()
    (info,) = await backend.keys()
    assert "cannot be read any more" in info.warnings[-1]
    with pytest.raises(KeyNotFound, match="cannot be read"):
        await backend.unwrap(made.wrapped, evolve(key, key_id="other"), CONTEXT)
    with pytest.raises(SecretError):
        await ring.opened().check()

    ring.write(good)
    assert await backend.check() == key
    (info,) = await backend.keys()
    assert not info.warnings
    assert len(caplog.records) == 1
    damage(ring)  # type: ignore[operator]
    ring.clock.advance(2)
    await backend.generate(CONTEXT)
    assert len(caplog.records) == 2, "another failure is told again"


async def test_reference_that_leads_somewhere_later_is_tried_again(ring: Ring) -> None:
    ring.write('[[keys]]\nstate = "primary"\nfrom = "env:LATER"\n')
    backend = ring.opened()
    with pytest.raises(KeyInvalid):
        await backend.check()
    ring.secrets["env:LATER"] = generate_key().reveal()
    with pytest.raises(KeyInvalid):
        await backend.generate(CONTEXT)
    ring.clock.advance(1)
    assert (await backend.generate(CONTEXT)).key.key_id == id_of(ring.secrets["env:LATER"])


async def test_closed_backend_says_so_and_reads_nothing(ring: Ring) -> None:
    backend = ring.opened()
    await backend.add_key()
    made = await backend.generate(CONTEXT)
    await backend.aclose()
    ring.path.unlink()
    for call in (
        backend.generate(CONTEXT),
        backend.check(),
        backend.keys(),
        backend.add_key(),
        backend.rotate(),
        backend.retire(made.key),
        backend.unwrap(made.wrapped, made.key, CONTEXT),
    ):
        with pytest.raises(BackendUnavailable, match="closed"):
            await call
    assert not ring.path.exists()


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


# --- nothing leaks ---------------------------------------------------------------------------------------------------


async def test_no_secret_in_output_errors_or_tracebacks_with_locals(ring: Ring) -> None:
    text = generate_key().reveal()
    raw = parse_key(SecretStr(text), field="key").reveal()
    mangled = text[:-1] + ("A" if text[-1] != "A" else "B")
    forbidden = [text, text[5:], mangled, raw.hex(), repr(raw)[2:-1], PASSPHRASE]
    shown = []
    for content in (
        entry("primary", mangled),
        entry("primary", text, "surprise = 1\n"),
        entry("primary", text, "broken"),
        entry("primary", text, 'id = "a"\nfingerprint = "00000000"\n'),
        entry("primary", text) * 2,
        FROM_PASSPHRASE.replace(FINGERPRINT, "00000000"),
        entry("primary", text, "# c"),
    ):
        ring.write(content)
        backend: KeyringBackend = ring.opened()
        with pytest.raises((SecretError, ConfigError)) as caught:
            await backend.add_key()
        shown.append(repr(vars(backend)))
        # This test's own frame holds what it put into the file; the frames below it may not.
        error = caught.value.with_traceback(caught.value.__traceback__ and caught.value.__traceback__.tb_next)
        shown.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    ring.write(entry("primary", text))
    backend = ring.opened()
    shown.append(f"{await backend.check()} {await backend.keys()} {backend!r} {vars(backend)}")
    assert not [secret for secret in forbidden if secret in "".join(shown)]


async def test_keys_in_memory_serve_while_the_file_is_being_read(ring: Ring) -> None:
    import threading

    backend = ring.opened()
    await backend.add_key()
    key = await backend.check()
    ring.secrets["env:SLOW"] = generate_key().reveal()
    ring.write(ring.text() + '[[keys]]\nstate = "decrypt-only"\nfrom = "env:SLOW"\n')
    asked, go_on = threading.Event(), threading.Event()

    def slow(reference: str) -> SecretStr:
        asked.set()
        assert go_on.wait(30)
        return ring.resolve(reference)

    backend._loader._resolve = slow
    ring.clock.advance(2)
    reading = asyncio.create_task(backend.generate(CONTEXT))
    assert await asyncio.to_thread(asked.wait, 30)
    ring.clock.advance(2)
    assert (await asyncio.wait_for(backend.generate(CONTEXT), 30)).key == key
    go_on.set()
    await asyncio.wait_for(reading, 30)
    assert len(await backend.keys()) == 2


async def test_retired_key_is_forgotten_by_processes_that_run(ring: Ring) -> None:
    here, other = ring.opened(), ring.opened()
    old = (await here.add_key()).key
    made = await other.generate(CONTEXT)
    await here.add_key()
    await here.rotate()
    await here.retire(old)
    ring.clock.advance(1)
    with pytest.raises(KeyDisabled):
        await other.unwrap(made.wrapped, old, CONTEXT)
    assert len(other._loader._made) == 1
