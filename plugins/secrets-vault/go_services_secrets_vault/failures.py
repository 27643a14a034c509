"""Which typed error an answer of the server is. The server's own text is matched, never repeated.

Status codes: https://openbao.org/api-docs/#http-status-codes. The texts are those of OpenBao 2.7 and Vault 1.x.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import KeyRef

from .settings import BACKEND, PLUGIN

TRANSIENT: Final = frozenset({"throttled", "standby", "connection", "unavailable"})
"""Reasons for which a call is worth repeating at once; a sealed server stays so until somebody unseals it."""

_REASONS: Final = {
    "sealed": ("is sealed", "Unseal it; calls work again by themselves."),
    "uninitialized": ("is not initialised", "Initialise and unseal it."),
    "standby": ("is a standby that does not serve", "Point the address at the active node."),
    "throttled": ("asks to wait", "Raise its rate limit quota if this lasts."),
    "timeout": ("did not answer in time", "Look at its load and at secrets.vault.timeout."),
    "connection": ("cannot be reached", "Look at secrets.vault.address and at the network."),
    "tls": ("cannot be trusted, or refuses our certificate", "Look at secrets.vault.ca_file and client_cert."),
    "answer": ("gave an answer that is not Vault's", "Look at what answers at secrets.vault.address."),
    "unavailable": ("answered with a server error", "Its log says more."),
    "closed": ("is closed", "Open the runtime again."),
}


class Refused(Exception):
    """The server's error; it does not leave this plugin.

    ``needs`` is what a policy must allow for the request: the capability and the path. ``key`` is the id of the key in
    question, where the request itself says it.
    """

    def __init__(self, status: int, errors: Iterable[str] = (), *, needs: str, key: str | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.text = "\n".join(errors).lower()
        self.needs = needs
        self.key = key


def unavailable(reason: str) -> BackendUnavailable:
    """No answer that can be used. ``metadata["reason"]`` says why in one word."""
    what, hint = _REASONS[reason]
    subject = "The secret backend 'vault'" if reason == "closed" else "The Vault server"
    return BackendUnavailable(f"{subject} {what}.", hint=hint, plugin=PLUGIN, metadata={"reason": reason})


def outage(refused: Refused) -> BackendUnavailable | None:
    """The outage that an answer tells of, or None when the server serves and means this call."""
    status, text = refused.status, refused.text
    if status == 503:
        return unavailable("sealed" if "sealed" in text else "unavailable")
    if status == 501:
        return unavailable("uninitialized")
    if status in (472, 473) or 300 <= status < 400 or "node not active" in text:
        return unavailable("standby")
    if status == 429:
        return unavailable("throttled" if "quota" in text else "standby")
    return unavailable("unavailable") if status >= 500 or status == 412 else None


def transit(refused: Refused, key: KeyRef | str) -> SecretError:
    """Why the transit engine refused; ``key`` is the wrapping key, with its version where that is known."""
    name = refused.key or _name(key)
    if refused.status in (401, 403):
        return KeyDenied(
            f"Vault does not allow this process to use key {name}.",
            hint=f"Its policy must allow {refused.needs}; or its token has ended.",
            plugin=PLUGIN,
        )
    if refused.status == 404 or "not found" in refused.text or "no existing key" in refused.text:
        return not_found(name)
    if refused.status in (400, 422):
        return opening(refused.text, refused.key or key)
    return KeyInvalid(
        f"Vault refused the request for key {name} (status {refused.status}).",
        hint="Its log says why.",
        plugin=PLUGIN,
    )


def opening(text: str, key: KeyRef | str) -> SecretError:
    """Why one ciphertext was refused, alone or in a batch."""
    name, text = _name(key), text.lower()
    if "too old" in text:
        return KeyDisabled(
            f"Vault no longer decrypts with key {name}: the version is below min_decryption_version.",
            hint="Lower min_decryption_version of the key, rewrap what still needs it, and raise it again.",
            plugin=PLUGIN,
        )
    if "soft-deleted" in text:
        return deleted(name)
    if "too new" in text or "not found" in text:
        return not_found(name)
    if "authentication failed" in text or "invalid ciphertext" in text or "invalid key version" in text:
        return CannotOpen(plugin=PLUGIN)
    return KeyInvalid(f"Vault cannot use key {name} for this.", hint="Its log says why.", plugin=PLUGIN)


def not_found(name: str) -> KeyNotFound:
    """There is no such key, or no such version of it."""
    return KeyNotFound(
        f"Vault has no key {name}.",
        hint=f"Look at secrets.{BACKEND}.key, mount and namespace; a restored server may lack the newest version.",
        plugin=PLUGIN,
        field=f"secrets.{BACKEND}.key",
    )


def deleted(name: str) -> KeyDisabled:
    """The key is soft-deleted (OpenBao)."""
    return KeyDisabled(f"Key {name} is deleted, but can be restored.", hint="Restore it in Vault.", plugin=PLUGIN)


def _name(key: KeyRef | str) -> str:
    return f"{key.key_id} (version {key.key_version})" if isinstance(key, KeyRef) else key
