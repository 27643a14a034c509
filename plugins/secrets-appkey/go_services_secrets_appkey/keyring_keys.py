"""From the entries of a keyring to keys. It blocks: references are resolved, and passphrases derived from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

from attrs import evolve

from go_services_core.config.secrets import SourcedSecret
from go_services_core.errors import ConfigError, KeyInvalid
from go_services_core.model import KeyRef
from go_services_core.secret import SecretBytes, SecretStr

from .held import BACKEND, HeldKey, KeySet
from .key import generate_key, parse_key
from .keyring import FIELD, Entry, Kdf, Keyring
from .passphrase import current_parameters, derive_key
from .wrapping import WrappingKey


class KeyLoader:
    """Makes the keys of one keyring. A key whose fingerprint is known is made once."""

    def __init__(self, path: Path, resolve: Callable[[str], SecretStr]) -> None:
        """Load for the keyring at ``path``, whose references ``resolve`` turns into secrets."""
        self._path = path
        self._resolve = resolve
        self._made: dict[tuple[object, ...], WrappingKey] = {}

    def key_set(self, keyring: Keyring) -> KeySet:
        """Every key of a keyring.

        Raises:
            KeyInvalid: as ``hold``, or two keys have one id and version.
        """
        held = [self.hold(entry) for entry in keyring.entries]
        for ref, count in Counter(key.ref for key in held).items():
            if count > 1:
                raise KeyInvalid(
                    f"The keyring {self._path} has key {ref.key_id}:{ref.key_version} twice.",
                    plugin="secrets-appkey",
                    field=FIELD,
                )
        wanted = {entry.material for entry in keyring.entries}
        self._made = {material: made for material, made in self._made.items() if material in wanted}
        return KeySet(held)

    def hold(self, entry: Entry) -> HeldKey:
        """The key of an entry.

        Raises:
            KeyInvalid: its material cannot be had, is none, or another than the fingerprint says; the message names
                the key and the field.
        """
        wrapping = None if entry.state == "retired" else self._wrapping(entry)
        key_id = entry.id if entry.id is not None or wrapping is None else wrapping.key_id
        assert key_id is not None, "a retired key has its id"
        detail = self._path.name
        warnings: tuple[str, ...] = ()
        if entry.source is not None:
            detail += f", from {entry.source}"
        elif entry.kdf is not None:
            parameters = entry.kdf.parameters()
            detail += f", passphrase, {parameters}"
            warnings = parameters.warnings()
        return HeldKey(
            ref=KeyRef(BACKEND, key_id, entry.version),
            state=entry.state,
            detail=detail,
            wrapping=wrapping,
            retired_at=entry.retired_at,
            warnings=warnings,
        )

    def complete(self, keyring: Keyring) -> Keyring:
        """The keyring with the ids and fingerprints that people may leave out.

        Raises:
            KeyInvalid: as ``key_set``.
        """
        self.key_set(keyring)
        return Keyring(tuple(self._completed(entry) for entry in keyring.entries))

    def make(self, state: Literal["primary", "decrypt-only"], *, passphrase: str | None, now: datetime) -> Entry:
        """The entry of a new key: a random one, or from the passphrase that a reference leads to.

        Raises:
            KeyInvalid: there is no such passphrase, or it is weak or mangled.
        """
        if passphrase is None:
            return self._completed(Entry(state=state, created_at=now, key=generate_key()))
        place, parameters = "secrets.appkey.passphrase_from", current_parameters()
        made = WrappingKey(derive_key(self._secret(passphrase, place), parameters, field=place))
        entry = Entry(
            id=made.key_id,
            state=state,
            fingerprint=made.fingerprint,
            created_at=now,
            passphrase=passphrase,
            kdf=Kdf.of(parameters),
        )
        self._made[entry.material] = made
        return entry

    def forget(self) -> None:
        """Drop what was made."""
        self._made = {}

    def _completed(self, entry: Entry) -> Entry:
        held = self.hold(entry)
        fingerprint = entry.fingerprint if held.wrapping is None else held.wrapping.fingerprint
        return evolve(entry, id=held.ref.key_id, fingerprint=fingerprint)

    def _wrapping(self, entry: Entry) -> WrappingKey:
        known = self._made.get(entry.material)
        if known is not None:
            return known
        name = "passphrase" if entry.passphrase is not None else "key" if entry.key is not None else "from"
        place = f"'{name}' of {entry.title} in {self._path.name}"
        made = WrappingKey(self._raw(entry, place))
        if entry.expected not in (None, made.fingerprint):
            raise KeyInvalid(
                f"{place} gives the fingerprint {made.fingerprint} instead of {entry.expected}: "
                "it is another key or passphrase.",
                hint="Give it the material that it was made with. A new key is a new entry.",
                plugin="secrets-appkey",
                field=place,
            )
        if entry.fingerprint is not None:  # without one, what a reference leads to may rightly change
            self._made[entry.material] = made
        return made

    def _raw(self, entry: Entry, place: str) -> SecretBytes:
        if entry.passphrase is not None and entry.kdf is not None:
            return derive_key(self._secret(entry.passphrase, place), entry.kdf.parameters(), field=place)
        if entry.source is not None:
            return parse_key(self._secret(entry.source, place), field=place)
        assert entry.key is not None, "checked when it was read"
        return parse_key(entry.key, field=place)

    def _secret(self, reference: str, place: str) -> SecretStr:
        problem = ""
        try:
            secret = self._resolve(reference)
            if isinstance(secret, SourcedSecret):
                secret.read(again=True)  # it remembers, and what is wrong may have been put right since
                secret = SecretStr(secret.reveal())
        except ConfigError as error:
            problem, secret = f"leads to nothing: {error}", SecretStr("")
        if secret == SecretStr(
            reference, name=True
        ):  # plain text is allowed in settings, but this would be stored and shown
            problem = "is not a reference such as env:NAME."
        if problem:
            raise KeyInvalid(
                f"{place} {problem}",
                hint="Make the secret available to this process. If it is lost, retire the key by hand.",
                plugin="secrets-appkey",
                field=place,
            )
        return secret
