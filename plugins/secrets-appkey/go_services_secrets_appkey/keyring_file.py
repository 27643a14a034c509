"""The keyring file on disk: who may read it, one writer at a time, and replacing it in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from go_services_core.errors import Conflict, KeyInvalid, KeyNotFound
from go_services_core.secret import SecretStr

from .keyring import FIELD, Keyring, parse, render

MAX_BYTES: Final = 1 << 20

Signature = tuple[int, ...]


class KeyringFile:
    """One keyring file. Everything here blocks; only ``signature`` is quick."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def signature(self) -> Signature | None:
        """What changes whenever the file does; None while there is none, or it cannot be looked at."""
        try:
            return _signature(self.path.stat())
        except OSError:
            return None

    def read(self) -> tuple[Keyring, Signature]:
        """What the file says.

        Raises:
            KeyNotFound: there is no file.
            KeyInvalid: it cannot be read or understood, or others may read the keys in it or change it.
        """
        text, status = self._content()
        keyring = parse(text, self.path)
        self._check_mode(status.st_mode, keyring)
        return keyring, _signature(status)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who changes the file. The lock ends with the process, however it ends.

        Raises:
            Conflict: another process is changing it.
            KeyInvalid: the lock cannot be made.
        """
        import fcntl

        target = self.path.resolve()
        with self._blames("locked"):
            handle = os.open(target.with_name(f".{target.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"The keyring {self.path} is being changed by another process.",
                    hint="Wait until that is done, look at the keys, and try again.",
                    plugin="secrets-appkey",
                    field=FIELD,
                ) from None
            yield
        finally:
            os.close(handle)

    def replace(self, keyring: Keyring) -> None:
        """Put ``keyring`` into the place of the file, or of none, in one step; owner and mode stay (0600 at first).

        Raises:
            KeyInvalid: it cannot be written, or others might read the keys in it; the file is as it was.
        """
        target = self.path.resolve()
        with self._blames("written"):
            before = target.stat() if target.exists() else None
            mode = 0o600 if before is None else before.st_mode & 0o777
            self._check_mode(mode, keyring)
            new = target.with_name(f".{target.name}.new")
            new.unlink(missing_ok=True)  # what a killed process left
            try:
                _write(new, render(keyring), mode, before)
                new.replace(target)
            except OSError:
                with suppress(OSError):
                    new.unlink(missing_ok=True)
                raise
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _content(self) -> tuple[SecretStr, os.stat_result]:
        found = self._opened()
        if found is None:
            raise KeyNotFound(
                f"There is no keyring {self.path}.",
                hint="`go-services secrets generate-key --add` makes it; docs/plugins/secrets-appkey describes it.",
                plugin="secrets-appkey",
                field=FIELD,
            )
        text, status = found
        if isinstance(text, str):
            raise KeyInvalid(f"The keyring {self.path} {text}.", plugin="secrets-appkey", field=FIELD)
        return text, status

    def _opened(self) -> tuple[SecretStr | str, os.stat_result] | None:
        with self._blames("read"):
            try:
                with self.path.open("rb") as file:
                    return _text(file.read(MAX_BYTES + 1)), os.fstat(file.fileno())
            except FileNotFoundError:
                return None

    def _check_mode(self, mode: int, keyring: Keyring) -> None:
        if os.name != "posix":
            return
        forbidden = 0o077 if keyring.holds_material else 0o022
        if mode & forbidden:
            raise KeyInvalid(
                f"The keyring {self.path} has the mode {mode & 0o777:04o}: "
                f"others may {'read its keys' if keyring.holds_material else 'change it'}.",
                hint=f"Run `chmod 600 {self.path}`.",
                plugin="secrets-appkey",
                field=FIELD,
            )

    @contextmanager
    def _blames(self, done: str) -> Iterator[None]:
        """Turn what the operating system refuses into a typed error."""
        try:
            yield
        except OSError as error:
            raise KeyInvalid(
                f"The keyring {self.path} cannot be {done}: {error.strerror}.", plugin="secrets-appkey", field=FIELD
            ) from None


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _text(data: bytes) -> SecretStr | str:
    """The content, or what is wrong with it."""
    if len(data) > MAX_BYTES:
        return "is over one MiB, which no keyring is"
    try:
        return SecretStr(data.decode())
    except UnicodeDecodeError:
        return "is not text in UTF-8"


def _write(new: Path, text: SecretStr, mode: int, before: os.stat_result | None) -> None:
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text.reveal().encode())
        if before is not None and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(file.fileno(), before.st_uid, before.st_gid)  # or the application could not read it any more
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
