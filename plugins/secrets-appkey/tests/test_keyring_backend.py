"""The backend over a keyring: conformance, what is refused, and reading again."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    ConfigError,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import KeyRef
from go_services_core.sealing import GoEnvelopeReader, KeyLifecycle, WrappedKey
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.testing.pytest_kit import SecretBackendKit
from go_services_envelope import Sealer
from go_services_secrets_appkey.backend import AppKeyBackend
from go_services_secrets_appkey.key import generate_key, parse_key
from go_services_secrets_appkey.keyring_backend import KeyringBackend
from go_services_secrets_appkey.passphrase import derive_key

from .conftest import PASSPHRASE, Ring
from .texts import BINDING, CONTEXT, FINGERPRINT, FROM_PASSPHRASE, entry, id_of


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
