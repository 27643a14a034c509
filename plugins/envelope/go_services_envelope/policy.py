"""Which keys of a secret backend may wrap and unwrap, and when: the same settings and rules for every backend.

A key is written ``KEY-ID``, which means any version of it, or ``KEY-ID:VERSION``. The version is what follows the last
colon, if that is a number: the ARN ``arn:aws:kms:eu-west-1:111122223333:key/1234abcd`` is a key id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import Attribute, field, frozen

from go_services_core.clock import Clock
from go_services_core.config import setting, settings
from go_services_core.errors import ConfigError, KeyDisabled, KeyNotFound
from go_services_core.model import KeyRef

_MAX_VERSION: Final = (1 << 31) - 1
_MAX_WARN_DAYS: Final = 36500


def _parsed(text: str, name: str) -> tuple[str, int | None]:
    """Key id and version; None is any version."""
    if not text.strip():
        raise ConfigError(f"{name}: a key may not be blank.", hint="Write 'KEY-ID' or 'KEY-ID:VERSION'.", field=name)
    head, colon, tail = text.rpartition(":")
    versioned = bool(colon) and tail.isascii() and tail.isdigit()
    key_id = head if versioned else text
    version = int(tail) if versioned and len(tail) <= 10 else None
    wrong_version = versioned and not (version and version <= _MAX_VERSION)
    if key_id != key_id.strip() or not key_id or key_id.endswith(":") or wrong_version:
        raise ConfigError(
            f"{name}: {text!r} names no key.",
            hint=f"Write 'KEY-ID' or 'KEY-ID:VERSION', without spaces around; a version is 1 to {_MAX_VERSION}.",
            field=name,
        )
    return key_id, version


def _key(_: object, attribute: Attribute[str], value: str) -> None:
    _parsed(value, attribute.name)


def _aware(_: object, attribute: Attribute[datetime | None], value: datetime | None) -> None:
    if value is not None and value.utcoffset() is None:
        raise ConfigError(
            f"{attribute.name} must be a date and time with an offset.",
            hint="Write it as 2027-01-31T00:00:00Z.",
            field=attribute.name,
        )


@frozen(kw_only=True)
class KeyWindow:
    """When one key may be used. Both ends belong to their window; an end that is not set is open.

    The window of ``KEY-ID:VERSION`` takes the place of that of ``KEY-ID`` for this version.

    Raises:
        ConfigError: the key is blank, a time has no offset, or an end comes before its begin.
    """

    key: str = field(validator=_key)
    encrypt_from: datetime | None = field(default=None, validator=_aware)
    encrypt_until: datetime | None = field(default=None, validator=_aware)
    decrypt_from: datetime | None = field(default=None, validator=_aware)
    decrypt_until: datetime | None = field(default=None, validator=_aware)

    def __attrs_post_init__(self) -> None:
        for use in ("encrypt", "decrypt"):
            begin, end = self.bounds(use)
            if begin is not None and end is not None and end < begin:
                raise ConfigError(
                    f"{use}_until of the window of key {self.key!r} comes before its {use}_from.", field=f"{use}_until"
                )

    def bounds(self, use: str) -> tuple[datetime | None, datetime | None]:
        """Begin and end of the window for ``encrypt`` or ``decrypt``."""
        if use == "encrypt":
            return self.encrypt_from, self.encrypt_until
        return self.decrypt_from, self.decrypt_until


def _once(keys: list[tuple[str, int | None]], name: str) -> None:
    for key, count in Counter(keys).items():
        if count > 1:
            raise ConfigError(f"{name}: the key {_name(*key)!r} stands there {count} times.", field=name)


def _compatible(_: object, attribute: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    _once([_parsed(text, attribute.name) for text in value], attribute.name)


def _windows(_: object, attribute: Attribute[tuple[KeyWindow, ...]], value: tuple[KeyWindow, ...]) -> None:
    _once([_parsed(window.key, attribute.name) for window in value], attribute.name)


def _warn_days(_: object, attribute: Attribute[float], value: float) -> None:
    if not 0 <= value <= _MAX_WARN_DAYS:
        raise ConfigError(f"{attribute.name} must be 0 to {_MAX_WARN_DAYS} days.", field=attribute.name)


@settings
class KeyRules:
    """Base of the settings of a secret backend: which keys unwrap besides its own, and the windows of keys.

    Raises:
        ConfigError: a value cannot be used; ``field`` names it.
    """

    compatible: tuple[str, ...] = setting(
        default=(),
        help="Further keys that may unwrap: KEY-ID for any version of it, or KEY-ID:VERSION.",
        example="billing-2025",
        validator=_compatible,
    )
    allow_any_key: bool = setting(
        default=False, help="Whether every key that the backend has may unwrap; windows still hold."
    )
    windows: tuple[KeyWindow, ...] = setting(
        default=(),
        help="When a key may be used: key, encrypt_from, encrypt_until, decrypt_from and decrypt_until of each.",
        validator=_windows,
    )
    warn_days: float = setting(
        default=14.0, help="Days before a window ends from which on status and doctor warn.", validator=_warn_days
    )


def _name(key_id: str, version: int | None) -> str:
    return key_id if version is None else f"{key_id}:{version}"


class KeyPolicy:
    """Decides for one backend. Nothing is asked of the backend."""

    def __init__(
        self, rules: KeyRules, *, plugin: str, backend: str, primary: Callable[[], Collection[str]], clock: Clock
    ) -> None:
        """Decide by ``rules``.

        Args:
            rules: the backend's settings.
            plugin: the plugin that errors name.
            backend: id of the backend; its settings are ``[secrets.<backend>]``.
            primary: ids of the keys that the backend is set up with itself, of any version; asked each time.
            clock: ``now`` is asked.
        """
        self._compatible = {_parsed(text, "compatible") for text in rules.compatible}
        self._any = rules.allow_any_key
        self._windows = {_parsed(window.key, "windows"): window for window in rules.windows}
        self._lead = timedelta(days=rules.warn_days)
        self._plugin = plugin
        self._backend = backend
        self._primary = primary
        self._clock = clock

    def may_wrap(self, key: KeyRef) -> None:
        """Whether ``key`` may wrap now.

        Raises:
            KeyDisabled: the time is outside its encrypt window.
        """
        self._inside(key, "encrypt", "Make another key primary, or change its window.")

    def may_unwrap(self, key: KeyRef) -> None:
        """Whether ``key`` may unwrap now.

        Raises:
            KeyNotFound: it is none of the backend's own keys, and not compatible.
            KeyDisabled: the time is outside its decrypt window.
        """
        own = self._primary()
        known = self._any or key.key_id in own or not self._compatible.isdisjoint(_forms(key))
        if key.backend != self._backend or not known:
            allowed = sorted({*own, *(_name(*form) for form in self._compatible)})
            raise KeyNotFound(
                f"This was sealed under key {key.key_id} (version {key.key_version}) of {key.backend!r}, "
                f"but secrets.{self._backend} unwraps only with {'any key' if self._any else ', '.join(allowed)}.",
                hint=f"If that key may be used here, add it to secrets.{self._backend}.compatible.",
                plugin=self._plugin,
                field=f"secrets.{self._backend}.compatible",
            )
        self._inside(key, "decrypt", "Change its window; rewrap what still needs the key.")

    def warnings(self, key: KeyRef) -> tuple[str, ...]:
        """What needs attention about the windows of ``key``, each in a few words; dates are in UTC."""
        window = self._window(key)
        if window is None:
            return ()
        now = self._clock.now()
        found = []
        for use in ("encrypt", "decrypt"):
            begin, end = window.bounds(use)
            if begin is not None and now < begin:
                found.append(f"{use} window begins on {_day(begin)}, {_ahead(begin - now)}")
            if end is not None and end < now:
                found.append(f"{use} window ended on {_day(end)}")
            elif end is not None and end - now <= self._lead:
                found.append(f"{use} window ends on {_day(end)}, {_ahead(end - now)}")
        last = window.decrypt_until
        if last is not None and (window.encrypt_until is None or last < window.encrypt_until):
            found.append(f"decrypt window ends on {_day(last)}, before the encrypt window")
        return tuple(found)

    def _inside(self, key: KeyRef, use: str, remedy: str) -> None:
        window = self._window(key)
        if window is None:
            return
        now = self._clock.now()
        begin, end = window.bounds(use)
        if begin is not None and now < begin:
            bound, reason = "from", f"begins at {_moment(begin)}"
        elif end is not None and end < now:
            bound, reason = "until", f"ended at {_moment(end)}"
        else:
            return
        raise KeyDisabled(
            f"Key {key.key_id} (version {key.key_version}) of {self._backend!r} may not {use} now: "
            f"its {use} window {reason} ({use}_{bound}).",
            hint=remedy,
            plugin=self._plugin,
            field=f"secrets.{self._backend}.windows",
        )

    def _window(self, key: KeyRef) -> KeyWindow | None:
        if not self._windows:
            return None
        exact, any_version = _forms(key)
        return self._windows.get(exact) or self._windows.get(any_version)


def _forms(key: KeyRef) -> tuple[tuple[str, int | None], ...]:
    """What names this key, the most exact first."""
    return (key.key_id, key.key_version), (key.key_id, None)


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _day(time: datetime) -> str:
    return time.astimezone(UTC).date().isoformat()


def _ahead(distance: timedelta) -> str:
    if distance.days == 0:
        return "in less than a day"
    return f"in {distance.days} day" + ("" if distance.days == 1 else "s")
