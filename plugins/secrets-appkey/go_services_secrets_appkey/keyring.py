"""The keyring file's text: reading it strictly and writing it in one form."""

from __future__ import annotations

import base64
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from attrs import Attribute, evolve, field, frozen

from go_services_core.config.document import Document, join_key, quote, scan
from go_services_core.config.structure import Reader
from go_services_core.errors import ConfigError, KeyInvalid
from go_services_core.secret import SecretStr

from .passphrase import ScryptParameters

FIELD: Final = "secrets.appkey.keyring"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{8}")
_DERIVED_ID: Final = re.compile(r"app-key-([0-9a-f]{8})")
_MAX_VERSION: Final = (1 << 31) - 1


def _id(_: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None and not _ID.fullmatch(value):
        raise ConfigError("an id has 1 to 128 letters, digits, dots, dashes and underscores, no dot or dash first")


def _version(_: object, attribute: Attribute[int], value: int) -> None:
    if not 1 <= value <= _MAX_VERSION:
        raise ConfigError(f"a version is 1 to {_MAX_VERSION}")


def _fingerprint(_: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None and not _FINGERPRINT.fullmatch(value):
        raise ConfigError("a fingerprint has 8 hexadecimal digits in lower case")


def _aware(_: object, attribute: Attribute[datetime | None], value: datetime | None) -> None:
    if value is not None and value.utcoffset() is None:
        raise ConfigError(f"{attribute.name} must have an offset, as in 2027-01-31T00:00:00Z")


@frozen(kw_only=True)
class Kdf:
    """``kdf`` of a key that is made from a passphrase."""

    name: Literal["scrypt"]
    n: int
    r: int
    p: int
    salt: str
    """Base64."""

    def __attrs_post_init__(self) -> None:
        self.parameters()

    def parameters(self) -> ScryptParameters:
        """The parameters that ``kdf`` says.

        Raises:
            ConfigError: they cannot be used.
        """
        try:
            salt = base64.b64decode(self.salt, validate=True)
        except ValueError:
            raise ConfigError("the salt must be base64") from None
        return ScryptParameters(n=self.n, r=self.r, p=self.p, salt=salt)

    @classmethod
    def of(cls, made: ScryptParameters) -> Kdf:
        """How the keyring says these parameters."""
        return cls(name="scrypt", n=made.n, r=made.r, p=made.p, salt=base64.b64encode(made.salt).decode())


@frozen(kw_only=True)
class Entry:
    """One ``[[keys]]``. What a person wrote may lack id and fingerprint; both follow from the key."""

    id: str | None = field(default=None, validator=_id)
    version: int = field(default=1, validator=_version)
    state: Literal["primary", "decrypt-only", "retired"]
    fingerprint: str | None = field(default=None, validator=_fingerprint)
    created_at: datetime | None = field(default=None, validator=_aware)
    retired_at: datetime | None = field(default=None, validator=_aware)
    key: SecretStr | None = None
    source: str | None = None
    """``from`` in the file: a reference to a key in its text form."""
    passphrase: str | None = None
    """A reference."""
    kdf: Kdf | None = None

    def __attrs_post_init__(self) -> None:
        given = [one for one in (self.key, self.source, self.passphrase) if one is not None]
        if self.state == "retired":
            if given or self.kdf is not None:
                raise ConfigError("a retired key has neither key, from, passphrase nor kdf")
            if self.id is None:
                raise ConfigError("a retired key needs its id")
            return
        if self.retired_at is not None:
            raise ConfigError("only a retired key has retired_at")
        if len(given) != 1:
            raise ConfigError("a key needs one of key, from and passphrase")
        if (self.passphrase is None) != (self.kdf is None):
            raise ConfigError("passphrase and kdf belong together")
        if self.passphrase is not None and self.fingerprint is None:
            raise ConfigError("a key from a passphrase needs its fingerprint, which tells a wrong passphrase")

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"key {self.id}:{self.version}" if self.id is not None else f"the {self.state} key without an id"

    @property
    def expected(self) -> str | None:
        """The fingerprint that the key must have, also where only the id says it."""
        derived = _DERIVED_ID.fullmatch(self.id or "")
        return self.fingerprint or (derived[1] if derived else None)

    @property
    def material(self) -> tuple[object, ...]:
        """What its key is made from: entries that agree in it have the same key."""
        return self.fingerprint, self.key, self.source, self.passphrase, self.kdf

    def retired(self, at: datetime) -> Entry:
        """What is left of it once it is retired."""
        return evolve(self, state="retired", retired_at=at, key=None, source=None, passphrase=None, kdf=None)


@frozen
class Keyring:
    """What a keyring file says, oldest key first."""

    entries: tuple[Entry, ...]
    commented: bool = False
    """Whether it has comments, which would be lost by writing it."""

    @property
    def primary(self) -> Entry:
        """The one primary key."""
        return next(entry for entry in self.entries if entry.state == "primary")

    def with_entries(self, changed: Mapping[Entry, Entry]) -> Keyring:
        """The same keyring with some entries changed."""
        return Keyring(tuple(changed.get(entry, entry) for entry in self.entries))

    @property
    def holds_material(self) -> bool:
        """Whether a key itself stands in the file."""
        return any(entry.key is not None for entry in self.entries)


def parse(text: SecretStr, path: Path) -> Keyring:
    """Read a keyring.

    Raises:
        KeyInvalid: it is not TOML, not a keyring, or has keys that this release does not know. The message names the
            places; neither it nor a variable of the frames that raise it holds a key.
    """
    made = _parsed(text)
    if isinstance(made, Keyring):
        return made
    raise KeyInvalid(
        f"The keyring {path} cannot be read: {'; '.join(made)}",
        hint="docs/plugins/secrets-appkey describes the file.",
        plugin="secrets-appkey",
        field=FIELD,
    )


def render(keyring: Keyring) -> SecretStr:
    """The text of a keyring, in its one form."""
    return SecretStr("\n".join(_rendered(entry) for entry in keyring.entries))


def _parsed(text: SecretStr) -> Keyring | list[str]:
    """The keyring, or its problems."""
    try:
        tree = tomllib.loads(text.reveal())
    except tomllib.TOMLDecodeError as error:  # its text may quote the file, and so a key
        line = re.search(r"line \d+", str(error))
        return [f"it is not valid TOML ({line[0] if line else 'at its end'})."]
    document = scan(text.reveal())
    lines = document.lines()
    reader = Reader(
        origin=lambda at: f"line {next((lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in lines), 1)}",
        folder=Path(),
        resolve=None,
    )
    reader.unknown((), tree, ("keys",))
    tables = tree.get("keys")
    if not isinstance(tables, list) or not tables:
        return [*reader.problems, "it has no [[keys]]."]
    entries = tuple(_entry(reader, table, ("keys", index)) for index, table in enumerate(tables))
    if reader.problems:
        return reader.problems
    read = tuple(entry for entry in entries if entry is not None)
    primaries = sum(entry.state == "primary" for entry in read)
    if primaries != 1:
        return [f"it has {primaries} keys with the state primary, and needs exactly one."]
    named = Counter(f"{entry.id}:{entry.version}" for entry in read if entry.id is not None)
    twice = [name for name, count in named.items() if count > 1]
    if twice:
        return [f"two keys are named {', '.join(twice)}."]
    return Keyring(read, _has_comment(document))


def _entry(reader: Reader, table: Any, at: tuple[str | int, ...]) -> Entry | None:
    if isinstance(table, dict):
        if "source" in table:
            reader.problem((*at, "source"), "there is no such setting; did you mean 'from'?")
            return None
        table = {("source" if name == "from" else name): value for name, value in table.items()}
    return reader.strict(Entry, table, at)


def _has_comment(document: Document) -> bool:
    rest, at = "", 0
    spans = [(header.start, header.end) for header in document.headers]
    spans += [(entry.start, entry.value_end) for entry in document.entries]
    for start, end in sorted(spans):
        rest += document.text[at:start]
        at = end
    return "#" in rest + document.text[at:]


def _rendered(entry: Entry) -> str:
    values = {
        "id": entry.id and quote(entry.id),
        "version": str(entry.version),
        "state": quote(entry.state),
        "fingerprint": entry.fingerprint and quote(entry.fingerprint),
        "created_at": entry.created_at and _time(entry.created_at),
        "retired_at": entry.retired_at and _time(entry.retired_at),
        "key": entry.key and quote(entry.key.reveal()),
        "from": entry.source and quote(entry.source),
        "passphrase": entry.passphrase and quote(entry.passphrase),
        "kdf": entry.kdf and _kdf(entry.kdf),
    }
    return "[[keys]]\n" + "".join(f"{join_key((name,))} = {value}\n" for name, value in values.items() if value)


def _kdf(kdf: Kdf) -> str:
    return f'{{ name = "{kdf.name}", n = {kdf.n}, r = {kdf.r}, p = {kdf.p}, salt = {quote(kdf.salt)} }}'


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
