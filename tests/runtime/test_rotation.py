"""Changing keys: rewrap and reencrypt over every kind of row, beside readers and writers."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from base64 import b64encode, urlsafe_b64encode
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve

from go_services_core.errors import (
    BackendUnavailable,
    BadInput,
    CannotOpen,
    CapabilityUnsupported,
    Conflict,
    FacetMissing,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import KeyRef, Sealed
from go_services_core.runtime import bindings
from go_services_core.runtime.build import open_secret_backend
from go_services_core.runtime.keys import lifecycle
from go_services_core.runtime.payload import CREDENTIAL_FORMAT, CREDENTIAL_VERSION
from go_services_core.runtime.rotation import rotate
from go_services_core.runtime.sealed_values import open_result, open_verification
from go_services_core.secret import SecretStr
from go_services_core.wrapping_keys import Resealed
from go_services_secrets_appkey.key import generate_key

from .member import Remote
from .sealed_rows import KINDS, LONG_KEY, RESULT, TOKEN, by_key, contents, fill, sow


def both(app, new):
    """A new primary key beside the application's first one."""
    return {"secrets.appkey.key": new, "secrets.appkey.decrypt_only": [app.key]}


async def primary(runtime):
    return (await runtime._core.backend.check()).key_id


async def ciphertexts(runtime):
    found = {}
    for kind in KINDS:
        page = await runtime._core.store.sealed.page(kind, limit=1000)
        found.update({(kind, row.id): row.sealed.ciphertext for row in page.items})
    return found


@pytest.fixture
async def filled(either):
    """An application with every kind of value under its first key."""
    async with either.open() as runtime:
        either.connection = await fill(either, runtime)
        either.before = await contents(runtime)
        either.old = await primary(runtime)
    assert {kind for kind, _ in either.before} == set(KINDS)
    return either


@pytest.mark.parametrize("action", ["rewrap", "reencrypt"])
async def test_every_kind_of_row_goes_under_the_primary_key_and_still_opens(filled, action):
    """P54: afterwards the old key is needed for nothing, the key check included."""
    new = generate_key()
    async with filled.open(settings=both(filled, new)) as runtime:
        assert await by_key(runtime) == {filled.old: len(filled.before)}
        seen = []
        report = await getattr(runtime, action)(verify=True, batch=2, progress=lambda *now: seen.append(now))
        assert report.complete
        assert {kind.kind: kind.done for kind in report.kinds} == {
            kind: sum(one == kind for one, _ in filled.before) for kind in KINDS
        }
        assert sum(kind.verified for kind in report.kinds) == len(filled.before)
        assert seen[-1] == (2 * len(filled.before), 2 * len(filled.before))
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})
        assert await by_key(runtime) == {await primary(runtime): len(filled.before)}
        again = await getattr(runtime, action)()
        assert sum(kind.done for kind in again.kinds) == 0
        assert sum(kind.unchanged for kind in again.kinds) == len(filled.before)
    async with filled.open(settings={"secrets.appkey.key": new}) as runtime:
        assert await contents(runtime) == filled.before
        assert (await runtime.execute(filled.connection.id, "me")).status == 200


async def test_rewrap_keeps_every_payload_and_reencrypt_none(filled):
    """The envelope ends with the payload: nonce, commitment, ciphertext and tag, which a rewrap does not open."""
    async with filled.open(settings=both(filled, generate_key())) as runtime:
        first = await ciphertexts(runtime)
        await runtime.rewrap()
        second = await ciphertexts(runtime)
        assert all(first[row] != second[row] and first[row][-60:] == second[row][-60:] for row in first)
        await runtime.reencrypt(all=True)
        third = await ciphertexts(runtime)
        assert all(second[row][-60:] != third[row][-60:] for row in first)
        # Under data keys of its own: the commitment to the data key is another one.
        assert not {envelope[:-28] for envelope in second.values()} & {envelope[:-28] for envelope in third.values()}
        assert await contents(runtime) == filled.before


async def test_reencrypt_uses_no_data_key_that_was_in_use(app):
    """Also in a process that holds them: what may have leaked with a data key is under another one afterwards."""
    async with app.open() as runtime:
        await sow(runtime, 12, scopes=4)

        async def heads():
            return {envelope[: 7 + int.from_bytes(envelope[5:7])] for envelope in (await ciphertexts(runtime)).values()}

        before = await heads()
        assert len(before) == 4
        await runtime.reencrypt(all=True)
        after = await heads()
        assert len(after) == 4
        assert not before & after


@pytest.mark.parametrize("action", ["rewrap", "reencrypt"])
async def test_all_takes_what_is_under_the_primary_key_too(filled, action):
    async with filled.open() as runtime:
        before = await ciphertexts(runtime)
        assert sum(kind.done for kind in (await getattr(runtime, action)()).kinds) == 0
        assert await ciphertexts(runtime) == before
        report = await getattr(runtime, action)(all=True, batch=3)
        assert sum(kind.done for kind in report.kinds) == len(filled.before)
        after = await ciphertexts(runtime)
        assert all(before[row] != after[row] for row in before)
        assert await contents(runtime) == filled.before


@pytest.mark.parametrize("action", ["rewrap", "reencrypt"])
async def test_dry_run_counts_and_changes_nothing(filled, action):
    async with filled.open(settings=both(filled, generate_key())) as runtime:
        before = await ciphertexts(runtime)
        report = await getattr(runtime, action)(dry_run=True)
        assert report.dry_run
        assert sum(kind.done for kind in report.kinds) == len(filled.before)
        assert await ciphertexts(runtime) == before


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": 1001}, {"rate": 0}, {"rate": -1}, {"rate": float("nan")}])
async def test_what_makes_no_sense_is_refused(app, runtime, wrong):
    with pytest.raises(BadInput):
        await runtime.rewrap(**wrong)


async def test_rate_is_kept_by_the_clock(app, clock):
    async with app.open() as runtime:
        await sow(runtime, 20, scopes=3)
        clock.slept.clear()
        await runtime.rewrap(all=True, batch=5, rate=10)
        assert clock.slept == [0.5, 1.0, 1.5, 2.0]


async def test_rows_that_cannot_be_read_are_named_and_stop_nothing(filled, caplog):
    """P53: named once with connection and key, and the state is the connection's until it opens again."""
    caplog.set_level(logging.ERROR, "go_services.runtime")
    async with filled.open(settings=both(filled, generate_key())) as runtime:
        store = runtime._core.store
        connection, row = await store.connections.load(filled.connection.id)
        (listed,) = [one for one in (await store.sealed.page("credential", limit=100)).items if one.id == row.id]
        damaged = Sealed(row.sealed.ciphertext[:-1] + bytes([row.sealed.ciphertext[-1] ^ 1]), row.sealed.key)
        assert await store.sealed.replace([Resealed(row=listed, sealed=damaged)]) == []
        for _ in range(2):
            report = await runtime.reencrypt()
            (bad,) = report.unreadable
            assert (bad.kind, bad.id, bad.connection_id, bad.key) == (
                "credential",
                row.id,
                connection.id,
                row.sealed.key,
            )
            assert not report.complete
            assert report.remaining == 0
            assert {kind.kind: kind.unreadable for kind in report.kinds}["credential"] == 1
        assert sum(kind.unchanged for kind in report.kinds) == len(filled.before) - 1
        assert (await runtime.connection(connection.id)).secret_state == "unreadable"
        (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert connection.id in said
        assert row.sealed.key.key_id in said
        assert (await runtime.key_status()).unreadable == (connection.id,)
        assert (await by_key(runtime))[filled.old] == 1


async def test_superseded_credential_that_cannot_be_read_leaves_the_connection_as_it_is(filled):
    async with filled.open() as runtime:
        store = runtime._core.store
        _, active = await store.connections.load(filled.connection.id)
        page = await store.sealed.page("credential", limit=100)
        (old,) = [row for row in page.items if row.connection_id == filled.connection.id and row.id != active.id]
        damaged = Sealed(old.sealed.ciphertext[:-1] + bytes([old.sealed.ciphertext[-1] ^ 1]), old.sealed.key)
        assert await store.sealed.replace([Resealed(row=old, sealed=damaged)]) == []
        report = await runtime.reencrypt(all=True)
        assert [one.id for one in report.unreadable] == [old.id]
        assert (await runtime.connection(filled.connection.id)).secret_state == "ok"
        assert (await runtime.execute(filled.connection.id, "me")).status == 200


SAMPLES = Path(__file__).parents[2] / "plugins" / "envelope" / "tests" / "go_envelopes" / "samples.json"


async def test_reencrypt_turns_what_the_go_system_sealed_into_todays_form(either):
    """Envelope and payload format both, also under the key that is primary; the token stays what it was."""
    samples = {sample["name"]: sample for sample in json.loads(SAMPLES.read_text("utf-8"))}
    full, bare = samples["a credential with every field"], samples["a bare token"]
    keys = [
        {**key, "material": SecretStr(key["material"])} for key in {full["keys"][0]["id"]: full["keys"][0]}.values()
    ]
    async with either.open(settings={"secrets.appkey.go_keys": keys, "runtime.cache_seconds": 0}) as runtime:
        facet, made = runtime._core.store.sealed, {}
        for sample, who in ((full, "u1"), (bare, "u2")):
            connection = await either.connect(runtime, who)
            made[connection.id] = sample
            page = await facet.page("credential", limit=100)
            (row,) = [row for row in page.items if row.connection_id == connection.id]
            key = KeyRef("", sample["keys"][0]["id"], sample["keys"][0]["version"])
            go = Resealed(
                row=row,
                sealed=Sealed(sample["envelope"].encode(), key),
                payload_format=sample["payload_format"],
                payload_version=1,
            )
            assert await facet.replace([go]) == []
            runtime._core.forget(connection.id)
        assert sum(kind.adopted for kind in (await runtime.rewrap()).kinds) == 2
        assert any("2 rows" in warning and "reencrypt" in warning for warning in (await runtime.key_status()).warnings)
        report = await runtime.reencrypt()
        done = {kind.kind: kind for kind in report.kinds}["credential"]
        moved = {one.connection_id for one in report.unreadable}
        (told,) = moved  # the sample names connection c1: put under another one it is not taken for that one's
        assert made[told] is full
        assert (done.done, done.unreadable) == (1, 1)
        (kept,) = made.keys() - moved
        _, row = await either.stored(runtime, kept)
        assert row.sealed.key == await runtime.check_key()
        assert (row.payload_format, row.payload_version) == (CREDENTIAL_FORMAT, CREDENTIAL_VERSION)
        assert (await runtime.token(kept)).reveal() == bare["plaintext"]


async def test_adopted_rows_are_left_to_reencrypt(filled):
    async with filled.open() as runtime:
        facet = runtime._core.store.sealed
        (row, *_) = (await facet.page("credential", limit=1)).items
        await facet.replace([Resealed(row=row, sealed=Sealed(b"services.secret.v1:{}", KeyRef("", "go", 1)))])
        report = await runtime.rewrap(all=True)
        assert {kind.kind: kind.adopted for kind in report.kinds}["credential"] == 1
        assert not report.complete
        assert report.unreadable == ()
        plan = await runtime.reencrypt(dry_run=True)
        assert {kind.kind: kind.done for kind in plan.kinds}["credential"] == 1


def breaking(runtime, after):
    """Let the backend answer ``after`` more rewraps and data keys, then be away until it is switched on again."""
    backend, left = runtime._core.backend, {"calls": after}
    originals = {name: getattr(backend, name) for name in ("rewrap", "generate", "unwrap")}

    def make(name):
        async def answer(*args):
            if left["calls"] <= 0:
                raise BackendUnavailable("The secret backend is away.", hint="Look at its network.")
            if name != "unwrap":
                left["calls"] -= 1
            return await originals[name](*args)

        return answer

    for name in originals:
        setattr(backend, name, make(name))
    return left


@pytest.mark.parametrize(("action", "calls"), [("rewrap", 2), ("reencrypt", 3)])
async def test_outage_in_the_middle_says_how_far_it_came_and_loses_nothing(app, action, calls):
    new = generate_key()
    async with app.open() as runtime:
        await sow(runtime, 40, scopes=40)
        before = await contents(runtime)
    async with app.open(settings=both(app, new)) as runtime:
        left = breaking(runtime, calls)
        with pytest.raises(BackendUnavailable, match=r"after \d+ of 40 rows: The secret backend is away") as refused:
            await getattr(runtime, action)(batch=1 if action == "reencrypt" else 10)
        assert 0 < refused.value.metadata["rows"] < 40
        assert "run it again" in str(refused.value)
        left["calls"] = 10**6
        assert len(await by_key(runtime)) == 2
        assert await contents(runtime) == before
        report = await getattr(runtime, action)(verify=True)
        assert sum(kind.done for kind in report.kinds) == 40 - refused.value.metadata["rows"]
        assert report.complete
    async with app.open(settings={"secrets.appkey.key": new}) as runtime:
        assert await contents(runtime) == before


@pytest.mark.parametrize("action", ["rewrap", "reencrypt"])
async def test_row_that_is_refreshed_meanwhile_keeps_the_newer_credential(app, action):
    """A refresh whose old ciphertext was replaced under it closes all the same: it compares versions."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        old = await primary(runtime)
    async with app.open(settings=both(app, generate_key())) as runtime:
        app.sandbox.faults.set("token", "slow", seconds=0.2)
        refreshing = asyncio.create_task(runtime.refresh(connection.id))
        while app.sandbox.requests["token"] < 2:
            await asyncio.sleep(0.005)
        report = await getattr(runtime, action)()
        assert sum(kind.done for kind in report.kinds) == 2  # the credential and the attempt that made it
        assert (await refreshing).id == connection.id
        _, row = await app.stored(runtime, connection.id)
        assert row.version == 2
        assert (await runtime.execute(connection.id, "me")).status == 200
        assert (await app.events(runtime)).count("credential.refreshed") == 1
        assert old not in await by_key(runtime)


async def test_row_changed_between_reading_and_replacing_is_met_again(app):
    async with app.open() as runtime:
        await sow(runtime, 10, scopes=1)
        before = await contents(runtime)
    new = generate_key()
    async with app.open(settings=both(app, new)) as runtime, app.open() as other:
        facet = runtime._core.store.sealed
        replace, changed = facet.replace, []

        async def overtaken(values):
            if not changed:  # somebody with the old key seals two of these rows anew first
                rows = [value.row for value in values[:2]]
                for row in rows:
                    opened = await other._core.sealer.open(row.sealed, bindings.binding_of(row))
                    sealed = await other._core.sealer.seal(opened.reveal(), bindings.binding_of(row))
                    changed.append(evolve(values[0], row=row, sealed=sealed))
                assert await replace(changed) == []
            return await replace(values)

        facet.replace = overtaken
        report = await runtime.rewrap(verify=True)
        assert len(changed) == 2
        (credentials, *_) = report.kinds
        assert (credentials.done, credentials.left_alone, credentials.verified) == (10, 0, 10)
        assert report.complete
        assert await contents(runtime) == before


async def test_process_with_the_old_key_is_told_of_by_the_rows_that_remain(app):
    """P54b: a process that has not seen the new key goes on sealing under the old one; the report says so."""
    async with app.open() as runtime:
        await sow(runtime, 3, scopes=1)
    async with app.open(settings=both(app, generate_key())) as runtime, app.open() as late:

        async def write(done, total):
            await sow(late, 1, scopes=1, first=100 + done)

        report = await rotate(runtime._core, "rewrap", after=write, batch=1)
        assert report.remaining >= 1
        assert not report.complete


async def test_store_without_the_facet_is_named(app, runtime, monkeypatch):
    monkeypatch.setattr(runtime._core, "store", type("Plain", (), {"remember": None})())
    for call in (runtime.rewrap, runtime.reencrypt, runtime.retry_unreadable):
        with pytest.raises(FacetMissing, match="Plain"):
            await call()


# --- the values of later features -----------------------------------------------------------------------------------


async def test_verification_tokens_and_results_are_sealed_for_their_rows(filled):
    """P50: a result moved to another key, or a token to another subscription, does not open."""
    async with filled.open() as runtime:
        core = runtime._core
        page = await core.store.resources.subscriptions(connection_id=filled.connection.id)
        (subscription,) = page.items
        assert await open_verification(core.sealer, subscription, filled.connection.scope) == TOKEN
        with pytest.raises(CannotOpen):
            await open_verification(core.sealer, evolve(subscription, id="another"), filled.connection.scope)
        for key, other in (("short", LONG_KEY), (LONG_KEY, LONG_KEY + "k")):
            begun = await core.store.once.begin("command", key, digest=b"d", owner="x", seconds=60)
            assert begun.state == "done"
            assert (await open_result(core.sealer, begun.result, kind="command", key=key)).reveal() == RESULT
            for wrong in ({"kind": "operation", "key": key}, {"kind": "command", "key": other}):
                with pytest.raises(CannotOpen):
                    await open_result(core.sealer, begun.result, **wrong)
    if filled.store is None:
        content = filled.content()
        assert TOKEN.reveal().encode() not in content
        assert RESULT not in content


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_status_tells_keys_their_rows_and_what_to_do(filled):
    async with filled.open(settings=both(filled, generate_key())) as runtime:
        status = await runtime.key_status()
        assert (status.backend, status.problem) == ("appkey", "")
        assert status.primary == await runtime.check_key()
        assert status.check.key_id == filled.old
        assert sum(use.rows for use in status.uses) == len(filled.before)
        assert {info.key.key_id for info in status.keys} == {filled.old, status.primary.key_id}
        assert any(f"{len(filled.before)} rows" in warning and "rewrap" in warning for warning in status.warnings)
        assert (await runtime.key_status(count=False)).uses == ()
        await runtime.rewrap()
        status = await runtime.key_status()
        assert status.check == status.primary
        assert status.warnings == ()


async def test_key_in_use_is_not_retired(filled):
    """P54: the refusal has the number of rows; without rows the key check still holds the key."""
    async with filled.open(settings=both(filled, generate_key())) as runtime:
        with pytest.raises(Conflict, match=f"{len(filled.before)} rows") as refused:
            await runtime.retire_key(filled.old)
        assert refused.value.metadata["rows"] == len(filled.before)
        with pytest.raises(KeyNotFound, match="no-such"):
            await runtime.retire_key("no-such")
        with pytest.raises(KeyNotFound):
            await runtime.retire_key(filled.old, 7)


async def test_process_that_rotates_seals_under_the_new_key_at_once(app, tmp_path):
    """P54b: a key is added to open only, and then made primary; a dry run changes nothing."""
    del app.settings["secrets.appkey.key"]
    app.settings["secrets.appkey.keyring"] = tmp_path / "keys.toml"
    async with open_secret_backend(app.config(), plugins=app.manager()) as backend:
        await lifecycle(backend).add_key()
    async with app.open() as runtime:
        await sow(runtime, 2, scopes=1)
        old = await runtime.check_key()
        await runtime.add_key(dry_run=True)
        assert len((await runtime.key_status()).keys) == 1
        made = await runtime.add_key()
        assert made.state == "decrypt-only"
        assert await runtime.check_key() == old
        for dry_run in (True, False):
            assert await runtime.rotate_key(dry_run=dry_run) == (old, made.key)
            assert await runtime.check_key() == (old if dry_run else made.key)
        await sow(runtime, 3, scopes=1, first=2)
        assert await by_key(runtime) == {old.key_id: 2, made.key.key_id: 3}
        with pytest.raises(Conflict, match="2 rows"):
            await runtime.retire_key(old.key_id)
        await runtime.rewrap()
        assert "keys.toml" in await runtime.retire_key(old.key_id)
        assert {info.state for info in (await runtime.key_status()).keys} == {"primary", "retired"}


async def test_backend_without_a_lifecycle_says_so(app):
    async with app.open(settings={"secrets.backend": "remote"}, plugins={"remote": Remote()}) as runtime:
        for call in (runtime.add_key, runtime.rotate_key, partial(runtime.retire_key, "remote-key")):
            with pytest.raises(CapabilityUnsupported, match="remote"):
                await call()
        assert (await runtime.key_status()).keys == ()


async def test_key_that_only_the_key_check_needs_is_not_retired(app):
    async with app.open() as runtime:
        old = await primary(runtime)
    async with app.open(settings=both(app, generate_key())) as runtime:
        with pytest.raises(Conflict, match="key check"):
            await runtime.retire_key(old)


async def test_key_that_the_backend_does_not_have_is_told_with_its_rows(filled):
    async with filled.open(settings=both(filled, generate_key())) as runtime:
        facet = runtime._core.store.sealed
        (row, *_) = (await facet.page("inbox", limit=1)).items
        gone = KeyRef("appkey", "app-key-gone", 1)
        await facet.replace([Resealed(row=row, sealed=Sealed(row.sealed.ciphertext, gone))])
        status = await runtime.key_status()
        assert any("1 row" in warning and "app-key-gone" in warning for warning in status.warnings)


# --- leaks ----------------------------------------------------------------------------------------------------------


async def backend_key(key):
    return key


@pytest.mark.parametrize("action", ["rewrap", "reencrypt"])
async def test_traceback_with_locals_of_an_outage_has_no_secret(app, action, monkeypatch):
    async with app.open() as runtime:
        await sow(runtime, 6, scopes=6)
    async with app.open(settings=both(app, generate_key())) as runtime:
        backend = runtime._core.backend
        monkeypatch.setattr(backend, "check", partial(backend_key, await backend.check()))

        async def away(*args):
            raise BackendUnavailable("The secret backend is away.")

        # A rewrap fails before any payload is at hand, a reencrypt when it has one open.
        monkeypatch.setattr(backend, "rewrap" if action == "rewrap" else "generate", away)
        with pytest.raises(BackendUnavailable) as refused:
            await getattr(runtime, action)()
    shown = "".join(traceback.TracebackException.from_exception(refused.value, capture_locals=True).format())
    assert "_reseal" in shown or action == "rewrap"
    assert "secret-0000" not in shown
    assert "gsk1_" not in shown


async def test_nothing_secret_is_in_the_database_or_the_log_after_keys_were_changed(app, caplog, monkeypatch):
    """P52: no token, no key, no data key; raw, in hex, in base64."""
    caplog.set_level(logging.DEBUG)
    new, keys = generate_key(), set()

    def listen(runtime):
        backend = runtime._core.backend
        for name in ("generate", "wrap", "unwrap"):
            original = getattr(backend, name)

            async def heard(*args, _original=original):
                got = await _original(*args)
                keys.add(getattr(got, "plaintext", got).reveal())
                return got

            monkeypatch.setattr(backend, name, heard)

    async with app.open() as runtime:
        listen(runtime)
        await fill(app, runtime)
    async with app.open(settings=both(app, new)) as runtime:
        listen(runtime)
        await runtime.rewrap(verify=True)
        with pytest.raises(SecretError):
            await runtime.retire_key("no-such")
        await runtime.reencrypt(all=True)
        content = app.content()
    with pytest.raises(KeyInvalid):
        async with app.open():
            pass
    content += app.content()
    content += "\n".join([logging.Formatter().format(record) + repr(record.args) for record in caplog.records]).encode()
    texts = {TOKEN.reveal(), RESULT.decode(), *app.secrets("sbx_")}
    for key in (app.key, new):
        texts |= {key.reveal(), key.reveal().removeprefix("gsk1_")}
    assert len(keys) > 5
    assert len(texts) > 8
    for secret in [text.encode() for text in texts] + sorted(keys):
        for form in (secret, secret.hex().encode(), b64encode(secret), urlsafe_b64encode(secret)):
            assert form.rstrip(b"=") not in content
    assert json.dumps(RESULT.decode())[1:-1].encode() not in content
