"""The versions of transit keys: what they are, a new one, and an end for old ones. Everything here blocks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from attrs import frozen

from go_services_core.errors import CapabilityUnsupported, Conflict, KeyInvalid, KeyNotFound
from go_services_core.model import KeyRef
from go_services_core.wrapping_keys import KeyInfo, KeyState
from go_services_envelope.policy import KeyPolicy

from .ciphertext import KeyPath
from .failures import Refused, deleted, not_found, unavailable
from .settings import PLUGIN, VaultSettings

if TYPE_CHECKING:
    from .client import Client

TYPES: Final = ("aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305")
"""Types of transit keys that wrap with 256 bits and authenticate."""


@frozen(kw_only=True)
class TransitKey:
    """What the server tells of a key."""

    path: KeyPath
    type: str
    latest: int
    least: int
    """``min_decryption_version``."""
    least_encrypting: int
    """``min_encryption_version``; 0 is the newest."""
    kept: int
    """``min_available_version``: older versions were destroyed; 0 when none were."""
    made: Mapping[int, datetime]
    derived: bool
    convergent: bool
    deleted: bool

    def state(self, version: int, *, primary: bool) -> KeyState:
        """What a version may do."""
        if self.deleted:
            return "pending-deletion"
        if version < self.least:
            return "retired"
        return "primary" if primary and version == self.latest else "decrypt-only"

    def detail(self, version: int) -> str:
        """The type, and when the version was made, which the server only tells of those that decrypt."""
        made = self.made.get(version)
        return self.type if made is None else f"{self.type}, made {made:%Y-%m-%d %H:%M} UTC"


class TransitKeys:
    """The key that wraps, and the compatible ones."""

    def __init__(self, path: KeyPath, settings: VaultSettings, policy: KeyPolicy) -> None:
        self._path = path
        self._policy = policy
        self._compatible: dict[str, set[int | None]] = {}
        for text in settings.compatible:
            head, _, tail = text.rpartition(":")
            key_id, version = (head, int(tail)) if tail.isdigit() and head else (text, None)
            self._compatible.setdefault(key_id, set()).add(version)

    def suitable(self, client: Client) -> None:
        """Make sure that the key that wraps can bind a data key to its context, and keep it.

        Raises:
            KeyInvalid: it is not derived, does not encrypt, or encrypts in a way that is too weak.
            KeyNotFound, KeyDisabled, KeyDenied: it cannot be used.
        """
        key = _read(client, self._path)
        name, make = key.path.id, f"`bao write -f {key.path.mount}/keys/NAME derived=true`"
        if key.deleted:
            raise deleted(name)
        if key.type not in TYPES:
            problem = f"has the type {key.type}; it must be {' or '.join(TYPES)}"
        elif not key.derived:
            problem = "is not derived, so that it would bind nothing to its context"
        elif key.convergent:
            problem = "encrypts convergently: equal data keys could be told"
        else:
            return
        raise KeyInvalid(
            f"The transit key {name} {problem}.",
            hint=f"Make another key with {make} and name it in secrets.vault.key.",
            plugin=PLUGIN,
            field="secrets.vault.key",
        )

    def infos(self, client: Client) -> list[KeyInfo]:
        """Every version that is not destroyed, the newest of each key first."""
        found = self._versions(client, self._path, {None})
        for key_id, versions in sorted(self._compatible.items()):
            if key_id != self._path.id:
                found += self._versions(client, KeyPath.parse(key_id), versions)
        return found

    def _versions(self, client: Client, path: KeyPath, wanted: set[int | None]) -> list[KeyInfo]:
        key = _read(client, path)
        return [
            KeyInfo(
                key=path.version(version),
                state=key.state(version, primary=path == self._path),
                detail=key.detail(version),
                warnings=self._policy.warnings(path.version(version)),
            )
            for version in range(key.latest, max(1, key.kept) - 1, -1)
            if None in wanted or version in wanted
        ]

    def refuse_to_add(self) -> NoReturn:
        """Say why there is no first phase here."""
        raise CapabilityUnsupported(
            "Vault makes its keys itself, and knows a new version everywhere at once.",
            hint="`go-services secrets rotate` makes one; older versions go on unwrapping.",
            plugin=PLUGIN,
        )

    def refuse_choice(self, to: str | None) -> None:
        """Say why no version can be chosen, if one was."""
        if to is not None:
            raise CapabilityUnsupported(
                "Vault always wraps with the newest version of a key.",
                hint="Rotate without naming a key; for another transit key change secrets.vault.key, "
                "with the old one in secrets.vault.compatible.",
                plugin=PLUGIN,
            )

    def rotate(self, client: Client, *, dry_run: bool) -> tuple[KeyRef, KeyRef]:
        """A new version; the newest before and after."""
        path, before = self._path, _read(client, self._path).latest
        if dry_run:
            return path.version(before), path.version(before + 1)
        client.rotate_key(path.mount, path.name)
        return path.version(before), path.version(_read(client, path).latest)

    def retire(self, client: Client, key: KeyRef, *, dry_run: bool) -> str:
        """Let a version be used no more: all below ``min_decryption_version`` are."""
        path = KeyPath.parse(key.key_id)
        if path != self._path and path.id not in self._compatible:
            raise KeyNotFound(
                f"{key.key_id} is neither secrets.vault.key nor compatible: there is nothing to retire.", plugin=PLUGIN
            )
        known, version = _read(client, path), key.key_version
        if not max(1, known.kept) <= version <= known.latest:
            raise not_found(f"{key.key_id} (version {version})")
        if version < known.least:
            return f"Version {version} of {path.id} was retired before."
        if version == known.latest and path == self._path:
            raise Conflict(
                f"Version {version} of {path.id} is the primary key.",
                hint="Rotate first, and rewrap what needs it.",
                plugin=PLUGIN,
            )
        if version == known.latest:
            raise CapabilityUnsupported(
                f"Version {version} is the newest of {path.id}: Vault does not retire it.",
                hint="Take the key out of secrets.vault.compatible, or delete it in Vault.",
                plugin=PLUGIN,
            )
        if version > known.least:
            raise Conflict(
                f"Vault retires in order, and version {known.least} of {path.id} still decrypts.",
                hint=f"Retire version {known.least} first.",
                plugin=PLUGIN,
            )
        above = version + 1
        if not dry_run:
            if 0 < known.least_encrypting < above:
                client.set_least_encrypting(path.mount, path.name, above)
            client.set_least_decrypting(path.mount, path.name, above)
        return f"min_decryption_version of {path.id} {'would be' if dry_run else 'is'} {above}."


def _read(client: Client, path: KeyPath) -> TransitKey:
    try:
        data = client.read_key(path.mount, path.name)
    except Refused as refused:
        refused.key = path.id
        raise
    try:
        return TransitKey(
            path=path,
            type=str(data["type"]),
            latest=int(data["latest_version"]),
            least=int(data["min_decryption_version"]),
            least_encrypting=int(data.get("min_encryption_version") or 0),
            kept=int(data.get("min_available_version") or 0),
            made={int(number): _time(made) for number, made in data["keys"].items()},
            derived=bool(data.get("derived")),
            convergent=bool(data.get("convergent_encryption")),
            deleted=bool(data.get("soft_deleted")),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise unavailable("answer") from None


def _time(made: Any) -> datetime:
    """Seconds since 1970 for a symmetric key; a table with a text for the others, which are refused anyway."""
    if isinstance(made, Mapping):
        return datetime.fromisoformat(str(made["creation_time"]))
    return datetime.fromtimestamp(int(made), UTC)
