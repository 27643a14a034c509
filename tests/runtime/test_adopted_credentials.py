"""Credentials that the Go system sealed, from its database to the request that is sent, and from there to today's form.

The database is adopted as an operator would do it; the ciphertexts are those of plugins/envelope/tests/go_envelopes.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
from go_services_core import ApiSpec, HttpResponse, OAuth2Code, Operation, ProviderSpec, Runtime, hookimpl
from go_services_core.admin import AdoptOptions
from go_services_core.config import Config
from go_services_core.errors import CannotOpen, KeyNotFound, SecretError
from go_services_core.plugins import PluginManager
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.go_database import statements
from go_services_core.testing.transport import ScriptedTransport
from go_services_secrets_appkey.key import generate_key
from go_services_store_sqlite.store import SqliteStore

FILE = Path(__file__).parents[2] / "plugins" / "envelope" / "tests" / "go_envelopes" / "samples.json"
SAMPLES = {sample["name"]: sample for sample in json.loads(FILE.read_text("utf-8"))}
FULL = "a credential with every field"
OTHER = "another key id and version"
HEADER = b"\x8bGSE\x02"
TOKEN = HttpResponse(
    200,
    (("Content-Type", "application/json"),),
    b'{"access_token": "new_at", "token_type": "bearer", "expires_in": 3600, "refresh_token": "new_rt"}',
)


class Provider:
    """A plugin with one OAuth provider."""

    GS_CONTRACT = 1

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        auth = OAuth2Code(authorize_url="https://acme.example/authorize", token_url="https://acme.example/token")
        api = ApiSpec(base_url="https://api.acme.example")
        return [
            ProviderSpec(id="github", name="GitHub", auth=auth, api=api, operations=(Operation("me", "GET", "/me"),))
        ]


class Adopted:
    """A database of the Go system with two active connections, adopted, and runtimes on it."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "app.db"
        self.file = folder / "go-services.toml"
        self.clock = FrozenClock(datetime(2026, 6, 1, tzinfo=UTC))
        self.environ = {"KEY": generate_key().reveal(), "ACME_SECRET": "s"}
        self.transport = ScriptedTransport()
        self.file.write_text(
            '[store]\nurl = "sqlite:///app.db"\n[providers.github]\nclient_id = "i"\nclient_secret = "env:ACME_SECRET"\n'
            '[secrets.appkey]\nkey = "env:KEY"\n',
            "utf-8",
        )

    async def adopt(self, c1: str, c2: str = OTHER, **row: Any) -> None:
        """Put a sample into the active credential of each connection, and adopt the database."""
        for text in statements("sqlite"):
            self.query(text)
        self.query("UPDATE service_connections SET provider_id = 'github', status = 'active' WHERE id = 'c2'")
        for id, name, more in (("k2", c1, row), ("k3", c2, {})):
            sample = SAMPLES[name]
            values = {
                "encrypted_payload": sample["envelope"].encode(),
                "encryption_key_id": sample["keys"][0]["id"],
                "encryption_version": sample["keys"][0]["version"],
                "payload_format": sample["payload_format"],
                "payload_version": sample["payload_version"],
                "token_type": "bearer",
                **more,
            }
            assignments = ", ".join(f"{column} = :{column}" for column in values)
            self.query(f"UPDATE service_credentials SET {assignments} WHERE id = :id", **values, id=id)
        await SqliteStore(self.database).admin.adopt(AdoptOptions())

    def configure(self, *names: str, **changes: str) -> None:
        """Add the keys of samples to the configuration; ``changes`` replaces the material of a key id."""
        text = self.file.read_text("utf-8")
        if any(SAMPLES[name]["without_prefix"] for name in names):
            text += "go_without_prefix = true\n"
        known = {(key["id"], key["version"]): key for name in names for key in SAMPLES[name]["keys"]}
        for number, key in enumerate(known.values()):
            self.environ[f"GO_KEY_{number}"] = changes.get(key["id"], key["material"])
            text += (
                f'[[secrets.appkey.go_keys]]\nid = "{key["id"]}"\nversion = {key["version"]}\n'
                f'encoding = "{key["encoding"]}"\nmaterial = "env:GO_KEY_{number}"\n'
            )
        self.file.write_text(text, "utf-8")

    def forget_keys(self) -> None:
        text = self.file.read_text("utf-8")
        self.file.write_text(text.partition("[[secrets.appkey.go_keys]]")[0].replace("go_without_prefix = true\n", ""))

    def open(self) -> AbstractAsyncContextManager[Runtime]:
        plugins = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "acme": Provider()})
        config = Config.load(self.file, environ=self.environ)
        return Runtime.open(config, plugins=plugins, clock=self.clock, transport=self.transport)

    async def authorization(self, runtime: Runtime, connection_id: str) -> str:
        """Call an operation and give the header that was sent."""
        self.transport.expect("GET", "https://api.acme.example/me", HttpResponse(200, (), b"{}"))
        await runtime.execute(connection_id, "me")
        return dict(self.transport.requests[-1].headers)["Authorization"]

    def query(self, text: str, **values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            return connection.execute(text, values).fetchall()

    def active(self, connection_id: str) -> tuple[Any, ...]:
        (row,) = self.query(
            """SELECT encryption_backend, encrypted_payload, payload_format, version FROM service_credentials
            WHERE connection_id = :id AND status = 'active'""",
            id=connection_id,
        )
        return row

    def content(self) -> bytes:
        """Every byte of the database, its log included."""
        return b"".join(path.read_bytes() for path in sorted(self.database.parent.glob("app.db*")))


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Adopted]:
    made = Adopted(tmp_path)
    yield made
    made.transport.done()


CREDENTIALS = {
    FULL: "go_at_every_field",
    "a credential with few fields": "go_at_few_fields",
    "a bare token": "go_at_bare",
    "a key with white space around it": "token of a key with white space around it",
    "a binary key": "token of a binary key",
    "no prefix, only nonce and ciphertext": "token of no prefix, only nonce and ciphertext",
}


@pytest.mark.parametrize(("name", "token"), CREDENTIALS.items())
async def test_call_is_signed_with_the_token_that_the_go_system_sealed(app: Adopted, name: str, token: str) -> None:
    await app.adopt(name)
    before = app.active("c1")
    app.configure(name, OTHER)
    async with app.open() as runtime:
        assert await app.authorization(runtime, "c1") == f"Bearer {token}"
        assert await app.authorization(runtime, "c2") == f"Bearer token of {OTHER}"
        assert {c.id: c.secret_state for c in (await runtime.connections()).items}["c1"] == "ok"
    assert app.active("c1") == before
    assert before[0] == ""


async def test_refresh_sends_the_go_systems_refresh_token_and_keeps_the_answer_in_todays_form(app: Adopted) -> None:
    await app.adopt(FULL)
    app.configure(FULL)
    app.transport.expect("POST", "https://acme.example/token", TOKEN)
    async with app.open() as runtime:
        await runtime.refresh("c1")
        sent = parse_qs(bytes(app.transport.requests[0].body or b"").decode())
        assert sent["refresh_token"] == ["go_rt_every_field"]
        assert await app.authorization(runtime, "c1") == "Bearer new_at"
    backend, ciphertext, format, version = app.active("c1")
    assert (backend, format, version) == ("appkey", "token_set_json", 3)
    assert ciphertext.startswith(HEADER)
    app.forget_keys()
    async with app.open() as runtime:
        assert await app.authorization(runtime, "c1") == "Bearer new_at"
        with pytest.raises(KeyNotFound):
            await runtime.token("c2")


async def test_token_that_the_payload_says_has_expired_is_renewed_before_the_call(app: Adopted) -> None:
    """The row does not say when: the payload's own time counts."""
    await app.adopt(FULL, expires_at=None)
    app.configure(FULL)
    app.clock.advance(365 * 86400)
    app.transport.expect("POST", "https://acme.example/token", TOKEN)
    async with app.open() as runtime:
        assert await app.authorization(runtime, "c1") == "Bearer new_at"


async def test_wrong_material_is_a_state_of_that_connection_and_stops_nothing_else(
    app: Adopted, caplog: pytest.LogCaptureFixture
) -> None:
    """P53: the error names connection and key, the log once, and lists go on working."""
    await app.adopt(FULL)
    app.configure(FULL, OTHER, **{"app-key": "not the key that it was"})
    caplog.set_level(logging.DEBUG)
    async with app.open() as runtime:
        for _ in range(3):
            with pytest.raises(CannotOpen, match=r"c1.*'app-key' \(version 1\).*secrets\.appkey\.go_keys") as caught:
                await runtime.execute("c1", "me")
            assert caught.value.metadata["connection_id"] == "c1"
            assert caught.value.metadata["key_id"] == "app-key"
        states = {connection.id: connection.secret_state for connection in (await runtime.connections()).items}
        assert (states["c1"], states["c2"]) == ("unreadable", "ok")
        assert await app.authorization(runtime, "c2") == f"Bearer token of {OTHER}"
    assert sum("c1" in record.message and record.levelno >= logging.WARNING for record in caplog.records) == 1
    assert "not the key that it was" not in caplog.text
    assert "go_at_every_field" not in caplog.text
    app.forget_keys()
    app.configure(FULL)
    async with app.open() as runtime:
        assert await app.authorization(runtime, "c1") == "Bearer go_at_every_field"
        assert (await runtime.connection("c1")).secret_state == "ok"


async def test_without_keys_the_error_names_the_setting_and_nothing_changes(app: Adopted) -> None:
    await app.adopt(FULL)
    before = app.active("c1")
    async with app.open() as runtime:
        with pytest.raises(KeyNotFound, match=r"c1.*'app-key' \(version 1\).*secrets\.appkey\.go_keys has none"):
            await runtime.execute("c1", "me")
    assert app.active("c1") == before
    assert app.transport.requests == []


async def test_older_form_is_refused_until_it_is_switched_on(app: Adopted) -> None:
    name = "no prefix"
    await app.adopt(name)
    app.configure(name)
    app.file.write_text(app.file.read_text("utf-8").replace("go_without_prefix = true\n", ""), "utf-8")
    async with app.open() as runtime:
        with pytest.raises(CannotOpen, match=r"secrets\.appkey\.go_without_prefix"):
            await runtime.execute("c1", "me")


async def test_credential_that_was_moved_to_another_connection_is_refused_where_it_names_its_own(app: Adopted) -> None:
    """P50, as far as the old format allows: what the Go system sealed first names no connection yet."""
    await app.adopt(FULL, FULL)
    app.configure(FULL)
    async with app.open() as runtime:
        assert await app.authorization(runtime, "c1") == "Bearer go_at_every_field"
        with pytest.raises(CannotOpen, match="connection c2 opens, but names another connection"):
            await runtime.execute("c2", "me")


async def test_stored_rows_cannot_be_turned_back_to_the_old_format(app: Adopted) -> None:
    """P51: with write access to the database and an old backup, but without a key."""
    await app.adopt(FULL)
    app.configure(FULL)
    app.transport.expect("POST", "https://acme.example/token", TOKEN)
    async with app.open() as runtime:
        await runtime.refresh("c1")
    good = app.active("c1")
    old = SAMPLES["a bare token"]["envelope"].encode()
    for change in (
        {"encrypted_payload": old},
        {"encrypted_payload": old, "encryption_key_id": "app-key", "encryption_version": 1},
        {"encryption_backend": ""},
        {"payload_format": "legacy_token"},
        {"payload_format": "active_credential_json"},
    ):
        columns = (
            "encryption_backend",
            "encrypted_payload",
            "encryption_key_id",
            "encryption_version",
            "payload_format",
        )
        (kept,) = app.query(f"SELECT {', '.join(columns)} FROM service_credentials WHERE version = 3")
        _set(app, change)
        async with app.open() as runtime:
            with pytest.raises(SecretError) as caught:
                await runtime.execute("c1", "me")
        assert isinstance(caught.value, CannotOpen), change
        _set(app, dict(zip(columns, kept, strict=True)))
    assert app.active("c1") == good
    async with app.open() as runtime:
        assert await app.authorization(runtime, "c1") == "Bearer new_at"
    _set(app, {"encryption_backend": "", "encrypted_payload": old, "payload_format": "legacy_token"})
    app.forget_keys()  # a whole row of the old format is refused once its keys are gone
    async with app.open() as runtime:
        with pytest.raises(KeyNotFound):
            await runtime.execute("c1", "me")


def _set(app: Adopted, change: dict[str, Any]) -> None:
    assignments = ", ".join(f"{column} = :{column}" for column in change)
    app.query(f"UPDATE service_credentials SET {assignments} WHERE version = 3", **change)


async def test_reencrypting_converts_every_credential_so_that_the_old_keys_can_go(app: Adopted) -> None:
    await app.adopt(FULL)
    app.query("DELETE FROM service_credentials WHERE id = 'k1'")  # sealed under another passphrase
    app.configure(FULL, OTHER)
    async with app.open() as runtime:
        await runtime.reencrypt()
    for id in ("c1", "c2"):
        backend, ciphertext, format, _ = app.active(id)
        assert (backend, format) == ("appkey", "token_set_json")
        assert ciphertext.startswith(HEADER)
    assert b"services.secret.v1:" not in b"".join(
        row[0] for row in app.query("SELECT encrypted_payload FROM service_credentials")
    )
    assert b"go_at_every_field" not in app.content()
    app.forget_keys()
    async with app.open() as runtime:
        assert await app.authorization(runtime, "c1") == "Bearer go_at_every_field"
        assert await app.authorization(runtime, "c2") == f"Bearer token of {OTHER}"
        credential = (await runtime.connections()).items
        assert {connection.secret_state for connection in credential} == {"ok"}
    app.transport.expect("POST", "https://acme.example/token", TOKEN)
    async with app.open() as runtime:
        await runtime.refresh("c1")
        sent = parse_qs(bytes(app.transport.requests[-1].body or b"").decode())
        assert sent["refresh_token"] == ["go_rt_every_field"]
