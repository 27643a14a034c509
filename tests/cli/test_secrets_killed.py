"""``secrets rewrap`` and ``reencrypt`` killed in the middle, while another process reads and writes (P54)."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from go_services_core import Runtime
from go_services_core.config import Config

from ..runtime import sealed_rows
from ..runtime.sealed_rows import contents, sow
from .conftest import Run

ROWS = 2000
SCOPES = 250
TOML = """
[runtime]
cache_seconds = 0

[store]
url = "sqlite:///go-services.db"

[secrets.appkey]
keyring = "keys.toml"

[providers.keyed]
auth = {kind = "api_key"}
api = {base_url = "https://api.keyed.example"}
"""
NEIGHBOUR = """
import asyncio, json, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sealed_rows import sow
from go_services_core import Runtime
from go_services_core.config import Config

async def main():
    loop = asyncio.get_running_loop()
    counts = {"reads": 0, "writes": 0}
    async with Runtime.open(Config.load(Path("go-services.toml"))) as runtime:
        expected, after = {}, None
        while True:
            page = await runtime.connections(provider_id="keyed", after=after, limit=1000)
            expected |= {one.id: f"secret-{int(one.external_account_id[1:]):06d}" for one in page.items}
            after = page.next
            if after is None:
                break
        ids = sorted(expected)
        print("ready", flush=True)
        asked = loop.run_in_executor(None, sys.stdin.readline)
        number = int(sys.argv[2])
        while True:
            for id in random.sample(ids, 5):
                token = await runtime.token(id)
                assert token.reveal() == expected[id], id
                counts["reads"] += 1
            await sow(runtime, 1, scopes=7, first=number)
            number += 1
            counts["writes"] += 1
            if asked.done():
                word = asked.result().strip()
                if word == "forget":  # as after five minutes: the keyring was looked at, no data key is older
                    await asyncio.sleep(1.1)
                    await runtime.check_key()
                    runtime._core.sealer.forget()
                    print("forgot", flush=True)
                else:
                    print(json.dumps(counts), flush=True)
                    return
                asked = loop.run_in_executor(None, sys.stdin.readline)
            await asyncio.sleep(0.02)

asyncio.run(main())
"""


def command(*args: str) -> subprocess.Popen[str]:
    path = Path(sys.executable).with_name("go-services")
    return subprocess.Popen([path, "secrets", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*args: str) -> dict[str, Any]:
    with command(*args, "--json") as process:
        output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, output + errors
    found: dict[str, Any] = json.loads(output)
    return found


@contextmanager
def neighbour(first: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that reads credentials and compares them, and stores new ones."""
    folder = str(Path(sealed_rows.__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR, folder, str(first)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def rows_under(database: sqlite3.Connection, key_id: str) -> int:
    sql = "SELECT count(*) FROM service_credentials WHERE encryption_key_id = ?"
    return int(database.execute(sql, (key_id,)).fetchone()[0])


def every_row(path: Path) -> dict[tuple[str, str], str]:
    async def read() -> dict[tuple[str, str], str]:
        async with Runtime.open(Config.load(path)) as runtime:
            return await contents(runtime)

    return asyncio.run(read())


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("action", ["rewrap", "reencrypt"])
def test_killed_in_the_middle_it_goes_on_and_loses_no_row(run: Run, folder: Path, chaos: Any, action: str) -> None:
    path = folder / "go-services.toml"
    path.write_text(TOML)
    run("secrets", "generate-key", "--add")
    run("store", "migrate")

    async def seed() -> None:
        async with Runtime.open(Config.load(path)) as runtime:
            await sow(runtime, ROWS, scopes=SCOPES)

    asyncio.run(seed())
    first = every_row(path)
    assert len(first) == ROWS
    was_in_the_middle = 0
    for round_ in range(chaos.rounds(2, 50)):
        run("secrets", "generate-key", "--add")
        with closing(sqlite3.connect("go-services.db")) as database, neighbour(10_000 * (round_ + 1)) as other:
            rotated = json.loads(run("secrets", "rotate", "--json").stdout)
            old, new = rotated["before"]["key_id"], rotated["after"]["key_id"]
            assert ask(other, "forget") == "forgot"
            until = chaos.random.randrange(1, ROWS)
            with command(action, "--batch", "20") as process:
                deadline = time.monotonic() + 60
                while rows_under(database, new) < until and process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.002)
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=60)
            left = rows_under(database, old)
            was_in_the_middle += 0 < left < ROWS
            report = finish(action, "--verify")
            assert report["complete"]
            assert report["kinds"]["credential"]["done"] == left, f"round {round_}"
            assert rows_under(database, old) == 0
            counts = json.loads(ask(other, "end"))
            assert counts["reads"] > 0
            assert counts["writes"] > 0
            assert other.wait(60) == 0
        now = every_row(path)
        assert {row: now.get(row) for row in first} == first, f"round {round_}"
        assert not {found for found in now.values() if len(found) != 64}, f"round {round_}"
        finish("retire", old)
    assert was_in_the_middle > 0
    run("store", "verify")
    run("doctor")
