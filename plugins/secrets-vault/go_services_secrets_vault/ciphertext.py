"""The text form of transit ciphertexts: ``vault:vVERSION:BASE64`` (https://openbao.org/docs/secrets/transit/)."""

from __future__ import annotations

import base64
import re
from typing import Final

from attrs import frozen

from go_services_core.errors import CannotOpen, KeyNotFound
from go_services_core.model import KeyRef

from .settings import BACKEND, KEY, MOUNT, PLUGIN

_FORM: Final = re.compile(r"vault:v([1-9][0-9]{0,9}):([A-Za-z0-9+/]+={0,2})")
"""Stricter than the server, which takes ``v0`` for version 1."""


@frozen
class KeyPath:
    """A transit key; its id is ``MOUNT/KEY``."""

    mount: str
    name: str

    @property
    def id(self) -> str:
        """How references, settings and the command write it."""
        return f"{self.mount}/{self.name}"

    def version(self, number: int) -> KeyRef:
        """The reference of one version."""
        return KeyRef(BACKEND, self.id, number)

    @classmethod
    def parse(cls, key_id: str) -> KeyPath:
        """Read ``MOUNT/KEY``.

        Raises:
            KeyNotFound: it is not of this form.
        """
        mount, _, name = key_id.rpartition("/")
        if not (re.fullmatch(MOUNT, mount) and re.fullmatch(KEY, name)):
            raise KeyNotFound(f"{key_id!r} is no key of Vault.", hint="A key's id is MOUNT/KEY.", plugin=PLUGIN)
        return cls(mount, name)


def version_of(ciphertext: str) -> int:
    """The key version that a ciphertext names.

    Raises:
        CannotOpen: it is not a transit ciphertext in its one canonical form.
    """
    form = _FORM.fullmatch(ciphertext)
    try:
        if form is not None and base64.b64encode(base64.b64decode(form[2], validate=True)).decode() == form[2]:
            return int(form[1])
    except ValueError:
        pass
    raise CannotOpen(plugin=PLUGIN)


def parse(wrapped: bytes, key: KeyRef) -> str:
    """The ciphertext that a wrapped key is, if it is one of this version of the key.

    Raises:
        CannotOpen: it is none, or names another version.
    """
    try:
        ciphertext = wrapped.decode("ascii")
    except UnicodeDecodeError:
        raise CannotOpen(plugin=PLUGIN) from None
    if version_of(ciphertext) != key.key_version:
        raise CannotOpen(plugin=PLUGIN)
    return ciphertext
