"""The secret backend ``appkey``: data keys wrapped with AES-256-GCM under the application's own keys."""

from __future__ import annotations

import hmac
import os
from collections.abc import Collection, Sequence
from typing import NoReturn

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    CapabilityUnsupported,
    ConfigError,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import KeyRef
from go_services_core.protocols import PluginEnv
from go_services_core.sealing import DataKey, GoEnvelope, WrappedKey
from go_services_core.secret import SecretBytes
from go_services_core.wrapping_keys import KeyInfo
from go_services_envelope.policy import KeyPolicy, KeyRules

from .go_keys import GoKeys
from .held import BACKEND, HeldKey, KeySet
from .key import REMEDY, parse_key
from .settings import AppKeySettings
from .wrapping import WrappingKey


def open_backend(settings: AppKeySettings, env: PluginEnv) -> AppKeyBackend:
    """The backend over the keys that ``[secrets.appkey]`` gives, or over its keyring.

    A keyring is read at the first use.

    Raises:
        ConfigError: there are no keys, or both kinds; or a setting means nothing here.
        KeyInvalid: a key cannot be used; the message names its setting.
    """
    _refuse_contradictions(settings)
    if settings.keyring is not None:
        from .keyring_backend import KeyringBackend

        return KeyringBackend(settings.keyring, settings, env)
    return AppKeyBackend(settings, env, keys_of(settings))


class AppKeyBackend:
    """Wraps data keys under the application keys of the settings.

    A key's id is made from the key, so that a wrong one is recognised by name.
    """

    id = BACKEND
    local = True
    """A data key costs no call to elsewhere, so that the envelope need not share one among concurrent misses."""

    _setting = "secrets.appkey.key"
    """Where its keys are named."""

    def __init__(self, settings: AppKeySettings, env: PluginEnv, keys: KeySet | None) -> None:
        """Hold ``keys``, and the keys of the Go system that the settings give.

        Raises:
            KeyInvalid: a key of the Go system cannot be used.
        """
        self._keys = keys
        self._closed = False
        # Who holds a key may unwrap with it: the set is the compatibility, and only windows are left to the policy.
        self._policy = KeyPolicy(
            KeyRules(allow_any_key=True, windows=settings.windows, warn_days=settings.warn_days),
            plugin="secrets-appkey",
            backend=BACKEND,
            primary=lambda: (),
            clock=env.clock,
        )
        self._go = GoKeys(settings.go_keys, without_prefix=settings.go_without_prefix)

    async def generate(self, context: bytes) -> DataKey:
        """A fresh data key under the primary key.

        Raises:
            KeyDisabled: the primary key is outside its encrypt window.
            BackendUnavailable: the backend is closed.
        """
        return self._wrap(await self._current(), SecretBytes(os.urandom(32)), context)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        """Wrap a data key under the primary key.

        Raises:
            KeyInvalid: the data key does not have 32 bytes.
            KeyDisabled: the primary key is outside its encrypt window.
            BackendUnavailable: the backend is closed.
        """
        return self._wrap(await self._current(), plaintext, context)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        """The data key in clear.

        Raises:
            KeyNotFound: ``key`` is none of the keys here; the message names it and them.
            KeyDisabled: ``key`` was retired, or is outside its decrypt window.
            CannotOpen: wrong context, or changed.
            BackendUnavailable: the backend is closed.
        """
        return self._unwrap(await self._current([key]), wrapped, key, context)

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        """The same data keys under the primary key, or why not.

        Raises:
            KeyDisabled: the primary key is outside its encrypt window; nothing was wrapped.
            BackendUnavailable: the backend is closed.
        """
        here = await self._current({old.key for old in keys})
        done: list[WrappedKey | SecretError] = []
        for old in keys:
            try:
                opened = self._unwrap(here, old.wrapped, old.key, old.context)
            except (CannotOpen, KeyNotFound, KeyDisabled) as error:
                done.append(error)
            else:
                made = self._wrap(here, opened, old.context)
                done.append(WrappedKey(wrapped=made.wrapped, key=made.key, context=old.context))
        return done

    async def check(self) -> KeyRef:
        """The primary key's reference, after a data key went through it and came back.

        Raises:
            KeyInvalid: it came back different.
            KeyDisabled: it is outside one of its windows.
            BackendUnavailable: the backend is closed.
        """
        made = await self.generate(b"check")
        opened = await self.unwrap(made.wrapped, made.key, b"check")
        if not hmac.compare_digest(opened.reveal(), made.plaintext.reveal()):
            raise KeyInvalid(f"The key {made.key.key_id} does not give back what it wrapped.", plugin="secrets-appkey")
        return made.key

    async def open_go(self, envelope: GoEnvelope) -> SecretBytes:
        """The plaintext of what the Go system sealed.

        Raises:
            KeyNotFound: no key of the settings is the one that it names.
            CannotOpen: it does not open, or is of a form that is not switched on.
            BackendUnavailable: the backend is closed.
        """
        self._ensure_open()
        return self._go.open(envelope)

    async def keys(self) -> Sequence[KeyInfo]:
        """The keys here, the primary first.

        Raises:
            BackendUnavailable: the backend is closed.
        """
        return tuple(self._info(key) for key in (await self._current()).all())

    async def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        """Raises CapabilityUnsupported: the settings hold the keys, and people edit them."""
        raise self._by_hand(
            "added",
            "Make one with `python -m go_services_secrets_appkey`, and add a reference to it to "
            "secrets.appkey.decrypt_only in every process.",
        )

    async def rotate(self, *, to: str | None = None, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        """Raises CapabilityUnsupported: the settings hold the keys, and people edit them."""
        raise self._by_hand(
            "made primary",
            "Once every process runs with the new key in secrets.appkey.decrypt_only, make it secrets.appkey.key "
            "and put the present one into secrets.appkey.decrypt_only.",
        )

    async def retire(self, key: KeyRef, *, dry_run: bool = False) -> str:
        """Raises CapabilityUnsupported: the settings hold the keys, and people edit them."""
        raise self._by_hand(
            "retired",
            f"Take the reference to {key.key_id} out of secrets.appkey.decrypt_only in every process, and then "
            "delete the key where it is kept.",
        )

    async def aclose(self) -> None:
        """Forget the keys; idempotent."""
        self._closed = True
        self._keys = None
        self._go = GoKeys(())

    async def _current(self, needed: Collection[KeyRef] = ()) -> KeySet:
        """The keys now; ``needed`` are those that the caller will ask for."""
        self._ensure_open()
        assert self._keys is not None, "only a keyring may have none yet"
        return self._keys

    def _ensure_open(self) -> None:
        if self._closed:
            raise BackendUnavailable("The secret backend 'appkey' is closed.", plugin="secrets-appkey")

    def _wrap(self, keys: KeySet, data_key: SecretBytes, context: bytes) -> DataKey:
        ref = keys.primary.ref
        self._policy.may_wrap(ref)
        return DataKey(plaintext=data_key, wrapped=keys.primary.opened().wrap(data_key, ref, context), key=ref)

    def _unwrap(self, keys: KeySet, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        held = keys.get(key)
        if held is None:
            raise self._not_here(key, keys)
        wrapping = held.opened()
        self._policy.may_unwrap(key)
        return wrapping.unwrap(wrapped, key, context)

    def _info(self, key: HeldKey) -> KeyInfo:
        warnings = () if key.state == "retired" else self._policy.warnings(key.ref)
        return KeyInfo(key=key.ref, state=key.state, detail=key.detail, warnings=(*warnings, *key.warnings))

    def _not_here(self, key: KeyRef, keys: KeySet) -> KeyNotFound:
        here = ", ".join(sorted(known.ref.key_id for known in keys.all()))
        return KeyNotFound(
            f"This was sealed under key {key.key_id} (version {key.key_version}) of {key.backend!r}, "
            f"but secrets.appkey holds {here}.",
            hint=self._way_back(),
            plugin="secrets-appkey",
            field=self._setting,
        )

    def _way_back(self) -> str:
        return "Put the key back as secrets.appkey.key, or add it to secrets.appkey.decrypt_only."

    def _by_hand(self, done: str, hint: str) -> CapabilityUnsupported:
        return CapabilityUnsupported(
            f"A key that stands in the settings cannot be {done} by a command.",
            hint=f"{hint} With secrets.appkey.keyring a command does it.",
            plugin="secrets-appkey",
            field="secrets.appkey.key",
        )

    def __repr__(self) -> str:
        held = "closed" if self._closed else self._keys and self._keys.primary.ref.key_id
        return f"{type(self).__name__}({held!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret backend holds keys and cannot be pickled or copied")


def keys_of(settings: AppKeySettings) -> KeySet:
    """The keys that stand in the settings.

    Raises:
        KeyInvalid: one is none; the message names its setting.
        ConfigError: a window is of a key that is not there.
    """
    assert settings.key is not None, "checked before"
    texts = [("secrets.appkey.key", settings.key)]
    texts += [(f"secrets.appkey.decrypt_only[{index}]", text) for index, text in enumerate(settings.decrypt_only)]
    held: list[HeldKey] = []
    for field, text in texts:
        wrapping = WrappingKey(parse_key(text, field=field))
        held.append(
            HeldKey(
                ref=KeyRef(BACKEND, wrapping.key_id, 1),
                state="decrypt-only" if held else "primary",
                detail=field,
                wrapping=wrapping,
            )
        )
    keys = KeySet(held)
    strangers = unknown_windows(settings, keys)
    if strangers:
        raise ConfigError(
            f"secrets.appkey.windows names {', '.join(strangers)}, which the settings do not hold.",
            hint=f"Here are {', '.join(key.ref.key_id for key in keys.all())}.",
            plugin="secrets-appkey",
            field="secrets.appkey.windows",
        )
    return keys


def unknown_windows(settings: AppKeySettings, keys: KeySet) -> list[str]:
    """Keys that have a window and are not in the set."""
    forms = {form for key in keys.all() for form in (key.ref.key_id, f"{key.ref.key_id}:{key.ref.key_version}")}
    return [window.key for window in settings.windows if window.key not in forms]


def _refuse_contradictions(settings: AppKeySettings) -> None:
    """Raise for settings that contradict each other, or that mean nothing here."""
    by_settings = settings.key is not None or bool(settings.decrypt_only)
    problem, field, hint = "", "secrets.appkey.key", ""
    if by_settings and settings.keyring is not None:
        problem = "takes its keys either from secrets.appkey.key and decrypt_only, or from secrets.appkey.keyring"
        hint = "To move to a keyring, name the present key in it by `from`, then take it out of the settings."
    elif settings.key is None and settings.keyring is None:
        problem = "needs secrets.appkey.key, a reference such as env:GO_SERVICES_KEY, or secrets.appkey.keyring, a file"
        hint = REMEDY
    elif settings.passphrase_from is not None and settings.keyring is None:
        problem, field = "makes keys from secrets.appkey.passphrase_from only in a keyring", "passphrase_from"
        hint = "Set secrets.appkey.keyring, or take it out."
    elif settings.compatible or settings.allow_any_key:
        field = "compatible" if settings.compatible else "allow_any_key"
        problem = f"unwraps with the keys that it holds, and with no other: secrets.appkey.{field} means nothing here"
        hint = "Take it out. An earlier key goes into decrypt_only, or into the keyring."
    if problem:
        field = field if field.startswith("secrets.") else f"secrets.appkey.{field}"
        raise ConfigError(f"The secret backend 'appkey' {problem}.", hint=hint, plugin="secrets-appkey", field=field)
