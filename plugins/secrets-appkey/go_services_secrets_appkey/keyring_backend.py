"""The secret backend ``appkey`` over a keyring file, which running processes read again when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from attrs import evolve

from go_services_core.errors import ConfigError, Conflict, KeyNotFound, ServicesError
from go_services_core.model import KeyRef
from go_services_core.protocols import PluginEnv
from go_services_core.wrapping_keys import KeyInfo

from .backend import AppKeyBackend, unknown_windows
from .held import BACKEND, HeldKey, KeySet
from .keyring import FIELD, Entry, Keyring
from .keyring_file import KeyringFile, Signature
from .keyring_keys import KeyLoader
from .settings import AppKeySettings

LOOK_EVERY: Final = 1.0
"""Seconds between looks at the file, apart from those for a key that is not here."""
T = TypeVar("T")


class KeyringBackend(AppKeyBackend):
    """Wraps data keys under the keys of a keyring file.

    The file is looked at once a second at most, and whenever a key is asked for that is not here; it is read when it
    has changed. What cannot be read leaves the keys as they are: ``check`` fails, ``keys`` and one line of the log
    warn. It belongs to one event loop; reading, deriving and writing are done in threads.
    """

    _setting = FIELD

    def __init__(self, path: Path, settings: AppKeySettings, env: PluginEnv) -> None:
        """Use the keyring at ``path``. It is read at the first use.

        Raises:
            KeyInvalid: a key of the Go system cannot be used.
        """
        super().__init__(settings, env, None)
        self._file = KeyringFile(path)
        self._loader = KeyLoader(path, env.resolve_secret)
        self._settings = settings
        self._clock = env.clock
        self._logger = env.logger
        self._reading = asyncio.Lock()
        self._looked: float | None = None
        self._signature: Signature | None = None
        self._failure: ServicesError | None = None
        self._warned = ""

    async def check(self) -> KeyRef:
        """The primary key's reference, after a data key went through it and came back.

        Raises:
            KeyNotFound: there is no keyring.
            KeyInvalid: the keyring as it is now, or a key of it, cannot be used.
            KeyDisabled: the primary key is outside one of its windows.
            BackendUnavailable: the backend is closed.
        """
        await self._look()
        ref = await super().check()
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return ref

    async def keys(self) -> Sequence[KeyInfo]:
        """The keys of the keyring, the primary first, then by age; a warning says when the file is unreadable by now.

        Raises:
            KeyNotFound: there is no keyring.
            KeyInvalid: it cannot be read, and never was.
            BackendUnavailable: the backend is closed.
        """
        await self._look()
        primary, *others = await super().keys()
        strangers = unknown_windows(self._settings, await self._current())
        warnings = [f"a window names {key}, which is not in the keyring" for key in strangers]
        if self._failure is not None:
            warnings.append(f"the keyring cannot be read any more: {self._failure}")
        return evolve(primary, warnings=(*primary.warnings, *warnings)), *others

    async def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        """Add a random key, or one from the passphrase of the settings, which only unwraps for now.

        Where there is no file, it is made and the key is primary.

        Raises:
            KeyInvalid: the keyring, a key of it, or the passphrase cannot be used.
            ConfigError: the keyring has comments, which would be lost.
            Conflict: another process is changing the keyring.
        """

        def change(keyring: Keyring | None) -> tuple[Keyring, HeldKey]:
            state: Final = "primary" if keyring is None else "decrypt-only"
            made = self._loader.make(state, passphrase=self._settings.passphrase_from, now=self._now())
            return Keyring((*(keyring.entries if keyring is not None else ()), made)), self._loader.hold(made)

        made = await self._change(change, dry_run=dry_run)
        info = self._info(made)
        return evolve(info, key=evolve(info.key, key_id="app-key-…")) if dry_run else info

    async def rotate(self, *, to: str | None = None, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        """Make ``to`` (an id, or id:version) or the newest key primary; the present one only unwraps from then on.

        Only a key that stands below the primary in the file is newer than it.

        Raises:
            KeyNotFound: there is no keyring, no key ``to``, or no newer one.
            KeyDisabled: the key was retired, or is outside its encrypt window.
            KeyInvalid: the keyring or a key of it cannot be used.
            ConfigError: the keyring has comments, which would be lost.
            Conflict: it is the primary key, or another process is changing the keyring.
        """

        def change(keyring: Keyring | None) -> tuple[Keyring, tuple[KeyRef, KeyRef]]:
            here = self._existing(keyring)
            old, new = here.primary, _successor(here) if to is None else _named(here, to)
            if new is old:
                raise Conflict(f"{old.title} is the primary key already.", plugin="secrets-appkey", field=FIELD)
            held = self._loader.hold(new)
            held.opened()
            self._policy.may_wrap(held.ref)
            after = here.with_entries({old: evolve(old, state="decrypt-only"), new: evolve(new, state="primary")})
            return after, (self._loader.hold(old).ref, held.ref)

        return await self._change(change, dry_run=dry_run)

    async def retire(self, key: KeyRef, *, dry_run: bool = False) -> str:
        """Take the material of ``key`` out of the file; its id, version and the time stay.

        Raises:
            KeyNotFound: there is no keyring, or no such key.
            KeyInvalid: the keyring or a key of it cannot be used.
            ConfigError: the keyring has comments, which would be lost.
            Conflict: it is the primary key, or another process is changing the keyring.
        """

        def change(keyring: Keyring | None) -> tuple[Keyring, str]:
            here = self._existing(keyring)
            old = _named(here, f"{key.key_id}:{key.key_version}" if key.backend == BACKEND else str(key))
            if old.state == "primary":
                raise Conflict(
                    f"{old.title} is the primary key.",
                    hint="Make another key primary first, and rewrap what needs this one.",
                    plugin="secrets-appkey",
                    field=FIELD,
                )
            if old.state == "retired":
                return here, "it was retired before."
            elsewhere = old.source or old.passphrase
            rest = f" What {elsewhere} leads to is still there: delete it when nothing else needs it."
            done = f"its material was taken out of {self._file.path}."
            after = here.with_entries({old: old.retired(self._now())})
            return after, done + rest if elsewhere else done

        return await self._change(change, dry_run=dry_run)

    async def aclose(self) -> None:
        """Forget the keys; idempotent."""
        await super().aclose()
        self._loader.forget()

    async def _current(self, needed: Collection[KeyRef] = ()) -> KeySet:
        self._ensure_open()
        missing = self._keys is None or any(self._keys.get(key) is None for key in needed)
        if missing or (self._due() and not self._reading.locked()):  # else somebody is reading it, and these will do
            await self._look()
        if self._keys is None:
            assert self._failure is not None, "a look gives keys or a failure"
            raise self._failure.with_traceback(None)
        return self._keys

    def _due(self) -> bool:
        return self._looked is None or self._clock.monotonic() - self._looked >= LOOK_EVERY

    async def _look(self) -> None:
        """Read the file if it has changed; what could not be read, again after a second."""
        async with self._reading:
            self._ensure_open()
            again = self._looked is None or (self._failure is not None and self._due())
            signature = self._file.signature()
            if signature == self._signature and not again:
                self._looked = self._clock.monotonic()
                return
            try:
                keys, signature = await asyncio.to_thread(self._load)
            except ServicesError as error:
                self._failed(error)
            else:
                self._ensure_open()
                self._keys, self._failure, self._warned = keys, None, ""
            self._looked, self._signature = self._clock.monotonic(), signature

    def _load(self) -> tuple[KeySet, Signature]:
        keyring, signature = self._file.read()
        return self._loader.key_set(keyring), signature

    def _failed(self, error: ServicesError) -> None:
        error.__cause__ = error.__context__ = None
        self._failure = error.with_traceback(None)
        if self._keys is not None and str(error) != self._warned:
            self._warned = str(error)
            self._logger.warning("The keyring has changed and cannot be read; its keys stay as they were: %s", error)

    async def _change(self, change: Callable[[Keyring | None], tuple[Keyring, T]], *, dry_run: bool) -> T:
        """Have ``change`` say what becomes of the keyring (None where there is no file), and write that."""
        self._ensure_open()
        result = await asyncio.to_thread(self._changed, change, dry_run)
        self._looked = None
        return result

    def _changed(self, change: Callable[[Keyring | None], tuple[Keyring, T]], dry_run: bool) -> T:
        with nullcontext() if dry_run else self._file.locked():
            before = None if self._file.signature() is None else self._to_edit()
            after, result = change(before)
            if not dry_run and after != before:
                self._loader.key_set(after)  # what the next start will do
                self._file.replace(after)
            return result

    def _to_edit(self) -> Keyring:
        keyring, _ = self._file.read()
        if keyring.commented:
            raise ConfigError(
                f"The keyring {self._file.path} has comments, which changing it would lose.",
                hint="Take them out, or change the file by hand.",
                plugin="secrets-appkey",
                field=FIELD,
            )
        return self._loader.complete(keyring)

    def _existing(self, keyring: Keyring | None) -> Keyring:
        return self._file.read()[0] if keyring is None else keyring

    def _now(self) -> datetime:
        return self._clock.now().replace(microsecond=0)

    def _way_back(self) -> str:
        if self._failure is not None:
            return f"The keyring has changed and cannot be read: {self._failure}"
        return f"If it was added elsewhere, {self._file.path} must come to this machine too; else put the key back in."


def _successor(keyring: Keyring) -> Entry:
    newer = keyring.entries[keyring.entries.index(keyring.primary) + 1 :]
    found = [entry for entry in newer if entry.state == "decrypt-only"]
    if not found:
        raise KeyNotFound(
            f"No key is newer than the primary key {keyring.primary.title}.",
            hint="`go-services secrets generate-key --add` makes one; or name the key to go back to.",
            plugin="secrets-appkey",
            field=FIELD,
        )
    return found[-1]


def _named(keyring: Keyring, name: str) -> Entry:
    found = [entry for entry in keyring.entries if name in (entry.id, f"{entry.id}:{entry.version}")]
    if not found:
        known = ", ".join(f"{entry.id}:{entry.version}" for entry in keyring.entries)
        raise KeyNotFound(f"There is no key {name}; there are {known}.", plugin="secrets-appkey", field=FIELD)
    return max(found, key=lambda entry: entry.version)
