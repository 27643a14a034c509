"""What ``[secrets.vault]`` may hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from go_services_core.config import setting, settings
from go_services_core.errors import ConfigError
from go_services_core.secret import SecretStr
from go_services_envelope.policy import KeyRules

PLUGIN: Final = "secrets-vault"
BACKEND: Final = "vault"
SERVICE_ACCOUNT: Final = "file:/var/run/secrets/kubernetes.io/serviceaccount/token"
"""Where Kubernetes puts a pod's token (https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/)."""

KEY: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
MOUNT: Final = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*"
"""Never ``..``: these become parts of URLs."""
_NEEDS: Final = {"token": ("token",), "approle": ("role_id", "secret_id"), "kubernetes": ("role", "jwt")}


@settings
class VaultSettings(KeyRules):
    """How to reach the server, how to log in, and which key wraps."""

    address: str = setting(help="URL of the server.", example="https://vault.internal:8200")
    key: str | None = setting(
        default=None,
        help="Name of the transit key that new secrets are sealed under; the source vault:// needs none.",
        example="go-services",
    )
    mount: str = setting(default="transit", help="Where the transit engine is mounted.")
    kv_mount: str = setting(default="secret", help="Where the KV engine (version 2) is mounted.")
    namespace: str | None = setting(default=None, help="Namespace that everything is in.", example="team-a")
    auth: Literal["token", "approle", "kubernetes"] = setting(default="token", help="How to log in.")
    token: SecretStr | None = setting(default=None, secret=True, help='For auth = "token".', example="env:VAULT_TOKEN")
    role_id: str | None = setting(default=None, help='For auth = "approle".')
    secret_id: SecretStr | None = setting(
        default=None, secret=True, help='For auth = "approle".', example="file:/run/secrets/vault-secret-id"
    )
    role: str | None = setting(default=None, help='For auth = "kubernetes": the role to log in as.')
    jwt: str = setting(
        default=SERVICE_ACCOUNT,
        help='For auth = "kubernetes": reference to the service account\'s token, read again at every login.',
    )
    auth_mount: str | None = setting(
        default=None, help="Where the auth method is mounted; its own name unless it is set.", example="kubernetes-eu"
    )
    ca_file: Path | None = setting(default=None, help="Certificates of the CAs that the server's must come from.")
    client_cert: Path | None = setting(default=None, help="Certificate to show to the server, with its chain.")
    client_key: Path | None = setting(default=None, help="Private key of client_cert, unless it is in the same file.")
    timeout: float = setting(default=5.0, help="Seconds that a call may take, with its repetitions and a login.")
    max_attempts: int = setting(default=3, help="How often a call that may be repeated is sent at most.")
    max_concurrency: int = setting(default=8, help="How many calls run at once at most, each in a thread.")
    go_envelopes: bool = setting(
        default=False, help="Whether to read what the Go system sealed with transit keys; never written."
    )

    def __attrs_post_init__(self) -> None:
        self._check_address()
        self._check_names()
        self._check_login()
        for name in ("timeout", "max_attempts", "max_concurrency"):
            if not getattr(self, name) > 0:
                raise _refused(name, "must be above 0.")

    def _check_address(self) -> None:
        if not _names_server(self.address):
            raise _refused("address", "must be a URL such as https://vault.internal:8200, without a password.")
        if self.client_key is not None and self.client_cert is None:
            raise _refused("client_cert", "is missing: client_key alone is of no use.")
        for name in ("ca_file", "client_cert"):
            if getattr(self, name) is not None and not self.address.startswith("https://"):
                raise _refused(name, "needs an address that begins with https://.")

    def _check_names(self) -> None:
        if self.key is not None and not re.fullmatch(KEY, self.key):
            raise _refused("key", "must be the name of a transit key: letters, digits, '_', '-' and '.'.")
        for name in ("mount", "kv_mount", "auth_mount", "namespace"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(MOUNT, value):
                raise _refused(name, "must be a path without slashes at its ends, such as 'team/transit'.")

        for name, keys in (("compatible", self.compatible), ("windows", [window.key for window in self.windows])):
            for key in keys:
                if not re.fullmatch(f"{MOUNT}/{KEY}(:[0-9]+)?", key):
                    raise _refused(name, f"must name keys as MOUNT/KEY or MOUNT/KEY:VERSION, not {key!r}.")

    def _check_login(self) -> None:
        missing = [name for name in _NEEDS[self.auth] if not getattr(self, name)]
        if missing:
            raise _refused(
                missing[0],
                f"is missing: auth = {self.auth!r} needs {' and '.join(_NEEDS[self.auth])}"
                + (f", and {' and '.join(missing)} are not set." if len(missing) > 1 else "."),
            )
        if not re.match(r"[a-z][a-z0-9-]*:", self.jwt):
            raise _refused("jwt", "must be a reference such as 'file:PATH', not the token itself.")

    @property
    def login_mount(self) -> str:
        """Where the auth method is mounted."""
        return self.auth_mount or self.auth


def usable(secret: SecretStr, name: str) -> SecretStr:
    """The value of a secret setting as it is now; a secret that is kept elsewhere may be read for this.

    Raises:
        ConfigError: it cannot stand in a request; it is not repeated.
    """
    value = secret.reveal()
    if not re.fullmatch(r"[!-~]+", value):
        raise _refused(f"secrets.vault.{name}", "is empty, or holds a space, a line break or what no token holds.")
    return SecretStr(value)


def _names_server(address: str) -> bool:
    try:
        parts = urlsplit(address)
        named = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False
    return named and address.startswith(("http://", "https://")) and not (parts.query or parts.fragment)


def _refused(name: str, problem: str) -> ConfigError:
    return ConfigError(f"{name} {problem}", plugin=PLUGIN, field=name)
