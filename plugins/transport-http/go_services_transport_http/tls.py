"""TLS contexts: whom the client trusts, and who it is. The server is always verified, and TLS is 1.2 or newer."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from go_services_core.certificate import Validity, read_validity
from go_services_core.errors import ConfigError, SigningError
from go_services_core.http import ClientCertificate

from .settings import TransportSettings

_DESCRIPTORS = Path("/proc/self/fd")


@frozen
class Refused:
    """Why a client certificate cannot be used; nothing of it is in here."""

    reason: str
    field: str
    hint: str | None = None

    def error(self) -> SigningError:
        """The error to raise, another one for each request that waited."""
        return SigningError(self.reason, hint=self.hint, field=self.field, plugin="transport-http")


@frozen
class Presented:
    """A context that presents one client certificate, and when that one is valid."""

    context: ssl.SSLContext
    validity: Validity


def trust(settings: TransportSettings) -> ssl.SSLContext | bool:
    """The system's authorities and those of ``ca_file``; True is aiohttp's own context for the former.

    Raises:
        ConfigError: ``ca_file`` cannot be read.
    """
    if settings.ca_file is None:
        return True
    try:
        return _context(settings.ca_file)
    except OSError as error:  # ssl.SSLError is one too
        raise ConfigError(
            f"ca_file cannot be read as PEM certificates: {error.strerror or type(error).__name__}.",
            field="ca_file",
            plugin="transport-http",
        ) from None


def present(identity: ClientCertificate, ca_file: Path | None) -> Presented | Refused:
    """A context for one client certificate. It takes tens of milliseconds and reads files: call it in a thread."""
    try:
        validity = read_validity(identity.certificate)
    except ValueError as reason:
        return Refused(f"The client certificate cannot be used: {reason}.", "certificate")
    if identity.server_ca is None:
        context = _context(ca_file)
    elif not identity.server_ca.strip():
        return Refused("The authorities for the server's certificate are empty.", "server_ca")
    else:
        try:
            context = ssl.create_default_context(cadata=identity.server_ca)
        except (OSError, ValueError, TypeError):
            return Refused("The authorities for the server's certificate cannot be read as PEM.", "server_ca")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(("http/1.1",))
    return _load(context, identity) or Presented(context, validity)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    context.set_alpn_protocols(("http/1.1",))
    return context


def _load(context: ssl.SSLContext, identity: ClientCertificate) -> Refused | None:
    """Put certificate and key into the context; what OpenSSL says of them is told without its words."""
    encrypted = "ENCRYPTED" in identity.private_key.reveal()
    if encrypted and identity.passphrase is None:
        return Refused("The client's private key is encrypted, and there is no passphrase.", "passphrase")
    try:
        with _file(identity) as path:
            # Without a function OpenSSL would ask for the passphrase on the terminal.
            context.load_cert_chain(
                path, password=lambda: identity.passphrase.reveal() if identity.passphrase is not None else ""
            )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return Refused("The private key is not that of the client certificate.", "private_key")
        if error.reason:
            return Refused(f"The client certificate cannot be used ({error.reason}).", "certificate")
    except ValueError:  # a passphrase is too long
        return Refused("The passphrase of the client's private key does not fit.", "passphrase")
    else:
        return None
    if encrypted:
        return Refused("The client's private key cannot be opened with its passphrase.", "passphrase")
    return Refused(
        "The client certificate or its private key cannot be read.",
        "private_key",
        "Both are PEM; the certificates of the authorities come after the client's own.",
    )


@contextmanager
def _file(identity: ClientCertificate) -> Iterator[str]:
    """The key and the certificates as the file that OpenSSL wants, for as long as it reads them.

    On Linux it lies in memory without a name (memfd_create(2)), so that no disk, snapshot or crash can keep it.
    Elsewhere it is a file that only this user may read, in a directory that only this user may enter.
    """
    create = getattr(os, "memfd_create", None)
    if create is not None and _DESCRIPTORS.is_dir():
        descriptor = create("client")
        try:
            _write(descriptor, identity)
            yield str(_DESCRIPTORS / str(descriptor))
        finally:
            os.close(descriptor)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "client.pem"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            _write(descriptor, identity)
        finally:
            os.close(descriptor)
        yield str(path)


def _write(descriptor: int, identity: ClientCertificate) -> None:
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(identity.private_key.reveal().encode("ascii", "replace") + b"\n")
        file.write(identity.certificate.encode("ascii", "replace") + b"\n")
