"""The demo's folder: configuration, key and database, in a form that the other commands understand."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import frozen

from . import scan

if TYPE_CHECKING:
    from ..testing.sandbox import Sandbox

CONFIG = """\
# Written by `go-services demo`. The provider is the sandbox, which ran only while the demo did.

[store]
url = {store}

# A process that was killed while it renewed a token is waited for seconds, not for a minute.
[runtime]
refresh_deadline = 2
refresh_lease = 4

[secrets.appkey]
keyring = "keys.toml"

[egress.allow]
sandbox = ["{host}"]

[providers.sandbox]
client_id = "{client_id}"
client_secret = "file:client.secret"
webhook_secrets = ["file:webhook.secret"]

[providers.sandbox.auth]
kind = "oauth2_auth_code"
authorize_url = "{url}/authorize"
token_url = "{url}/token"
revocation_url = "{url}/revoke"
issuer = "{url}"
default_grants = ["items.read", "items.write"]
rotation = "single-use"
revocation_scope = "grant"

[providers.sandbox.api]
base_url = "{url}"

[providers.sandbox.identity]
url = "/userinfo"
account = "id"

[providers.sandbox.webhook]
scheme = "hmac"
signature_header = "webhook-signature"
encoding = "base64"
prefix = "v1,"
signed = ["id", "timestamp", "body"]
id_header = "webhook-id"
timestamp_header = "webhook-timestamp"
event_field = "type"

[[providers.sandbox.capabilities]]
name = "items.read"
grants = ["items.read"]

[[providers.sandbox.operations]]
id = "items.list"
method = "GET"
path = "/items"
capability = "items.read"
summary = "All items, page by page"
params = [{{ name = "per_page", type = "integer" }}, {{ name = "page", type = "integer" }}]
pagination = {{ style = "link" }}

[[providers.sandbox.operations]]
id = "items.create"
method = "POST"
path = "/items"
summary = "Add an item"
params = [{{ name = "name", where = "body", required = true }}]
idempotency_header = "Idempotency-Key"

# The sandbox lets this be asked so often; the step "shared-budget" of the demo has two processes share it. The name of
# the budget is new in each run.
[[providers.sandbox.operations]]
id = "items.count"
method = "GET"
path = "/items"
capability = "items.read"
summary = "A page of items, ten times an hour"
budget = {{ bucket = "items.count.{run}", windows = [{{ units = 10, seconds = 3600 }}] }}
"""


@frozen
class Files:
    """Where the demo keeps what it writes."""

    folder: Path
    store_url: str

    @property
    def database(self) -> Path | None:
        """The SQLite file; None when the database is elsewhere."""
        path = self.store_url.removeprefix("sqlite:///")
        return None if path == self.store_url else self.folder / path

    @property
    def config(self) -> Path:
        return self.folder / "go-services.toml"

    @property
    def keyring(self) -> Path:
        return self.folder / "keys.toml"

    def write(self, sandbox: Sandbox, key: str) -> None:
        """Write configuration and secrets; a key that is there already stays, because the database needs it."""
        self._secret("client.secret", sandbox.client_secret.reveal())
        self._secret("webhook.secret", sandbox.webhook_secret.reveal())
        if not self.keyring.exists():
            self._replace(self.keyring, f'[[keys]]\nstate = "primary"\nkey = {json.dumps(key)}\n', mode=0o600)
        text = CONFIG.format(
            store=json.dumps(self.store_url),
            url=sandbox.url,
            host=urlsplit(sandbox.url).netloc,
            client_id=sandbox.client_id,
            run=os.urandom(4).hex(),
        )
        self._replace(self.config, text, mode=0o600)  # the store's URL may have a password

    def contents(self) -> AsyncGenerator[tuple[str, bytes]]:
        """All that the database holds: pairs of a file's or table's name and a piece of its content."""
        return scan.postgres(self.store_url) if self.database is None else scan.sqlite(self.database)

    def secrets(self) -> list[str]:
        """The secrets that the demo wrote into files of their own."""
        keys = re.findall(r"gsk1_[A-Za-z0-9_-]+", self.keyring.read_text())
        return [*keys, *((self.folder / name).read_text().strip() for name in ("client.secret", "webhook.secret"))]

    def _secret(self, name: str, value: str) -> None:
        self._replace(self.folder / name, value + "\n", mode=0o600)

    @staticmethod
    def _replace(path: Path, text: str, *, mode: int = 0o644) -> None:
        """Write beside and rename: a kill in between leaves the old file or the new one, never half of one."""
        beside = path.with_name(f"{path.name}.new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as file:
            file.write(text)
        beside.replace(path)
