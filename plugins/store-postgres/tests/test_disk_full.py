"""A disk that is really full: the database lies on a small file system in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from attrs import evolve

from go_services_core.errors import StoreUnavailable
from go_services_core.testing.checks.store_queues import delivery
from go_services_core.testing.postgres import PostgresServer
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore


def mount(folder: Path, *, size: str, again: bool = False) -> None:
    options = f"{'remount,' if again else ''}size={size}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)


@pytest.fixture
def small_disk(server: PostgresServer) -> Iterator[Path]:
    """A tablespace of 32 MiB, named ``small``."""
    if server.own is None or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system, and only beside a server of our own")
    folder = Path(tempfile.mkdtemp(dir=server.own.folder))
    try:
        mount(folder, size="32m")
    except subprocess.CalledProcessError as refused:
        pytest.skip(f"this machine does not let root mount: {refused.stderr.decode().strip()}")
    try:
        owner = (server.own.folder / "data").stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        with psycopg.connect(server.base, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'".encode())
            yield folder
            connection.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def test_full_disk_is_typed_and_the_store_works_again_when_there_is_space(
    server: PostgresServer, template: str, small_disk: Path
) -> None:
    with psycopg.connect(server.base, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE crowded TEMPLATE {template} TABLESPACE small".encode())
    store = PostgresStore(PostgresSettings(url=server.url("crowded")))
    await store.open()
    accepted = []
    with pytest.raises(StoreUnavailable, match="Free space on the server's disk"):
        for number in range(200):
            one = delivery(f"d{number}")
            big = evolve(one.sealed, ciphertext=os.urandom(1 << 20))
            accepted.append((await store.queues.accept(evolve(one, sealed=big))).id)
    assert accepted
    for id in accepted:
        assert await store.queues.delivery(id) is not None
    mount(small_disk, size="64m", again=True)
    assert not (await store.queues.accept(delivery("after"))).duplicate
    await store.aclose()
    with psycopg.connect(server.base, autocommit=True) as connection:
        connection.execute("DROP DATABASE crowded WITH (FORCE)")
