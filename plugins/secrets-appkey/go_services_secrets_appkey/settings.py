"""What ``[secrets.appkey]`` may hold."""

from __future__ import annotations

from pathlib import Path

from go_services_core.config import setting, settings
from go_services_core.secret import SecretStr
from go_services_envelope.policy import KeyRules

from .go_keys import GoKey


@settings
class AppKeySettings(KeyRules):
    """The application's keys: ``key`` and ``decrypt_only``, or a ``keyring``."""

    key: SecretStr | None = setting(
        default=None, secret=True, help="The key that new secrets are sealed under.", example="env:GO_SERVICES_KEY"
    )
    decrypt_only: tuple[SecretStr, ...] = setting(
        default=(),
        secret=True,
        help="Earlier keys, which still open what was sealed under them.",
        example="env:GO_SERVICES_OLD_KEY",
    )
    keyring: Path | None = setting(
        default=None,
        help="File with the keys and their states, which the command changes and running processes read again.",
        example="keys.toml",
    )
    passphrase_from: str | None = setting(
        default=None,
        help="Reference to the passphrase that new keys of the keyring are made from, instead of random ones.",
        example="env:GO_SERVICES_PASSPHRASE",
    )
    go_keys: tuple[GoKey, ...] = setting(
        default=(), help="Keys of the Go system, which open what it sealed and seal nothing."
    )
    go_without_prefix: bool = setting(
        default=False, help="Whether envelopes of the Go system without its prefix, its older form, are opened."
    )
