"""One keyring and several real processes: a key arrives in two phases, and a writer is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from go_services_core.clock import SystemClock
from go_services_core.errors import Conflict
from go_services_core.model import KeyRef
from go_services_core.secret import SecretStr
from go_services_secrets_appkey.keyring import parse
from go_services_secrets_appkey.keyring_backend import KeyringBackend

from .conftest import Ring

CONTEXT = bytes(32)
START = """
import asyncio, json, logging, sys
from pathlib import Path
from go_services_core.clock import SystemClock
from go_services_core.errors import Conflict, ServicesError
from go_services_core.model import KeyRef
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_secrets_appkey.backend import open_backend
from go_services_secrets_appkey.settings import AppKeySettings

env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
backend = open_backend(AppKeySettings(keyring=Path(sys.argv[1])), env)

def say(*words):
    print(json.dumps(words), flush=True)
"""
SERVER = (
    START
    + """
async def main():
    say("ready", (await backend.check()).key_id)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request is None:
                made = await backend.generate(bytes(32))
                say(made.wrapped.hex(), made.key.key_id, made.plaintext.reveal().hex())
            else:
                wrapped, key_id = request
                opened = await backend.unwrap(bytes.fromhex(wrapped), KeyRef("appkey", key_id, 1), bytes(32))
                say(opened.reveal().hex())
        except ServicesError as error:
            say(type(error).__name__, error.retryable)

asyncio.run(main())
"""
)
WRITER = (
    START
    + """
async def again(change, *what):
    while True:
        try:
            return await change(*what)
        except Conflict:
            await asyncio.sleep(0.001)

async def main():
    say("ready")
    while True:
        added = await again(backend.add_key)
        before, _ = await again(backend.rotate)
        await again(backend.retire, before)
        say(added.key.key_id)

asyncio.run(main())
"""
)


@contextmanager
def started(script: str, ring: Ring) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, str(ring.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait(timeout=30)


def answer(process: subprocess.Popen[str]) -> list[Any]:
    stream: IO[str] | None = process.stdout
    assert stream is not None
    said: list[Any] = json.loads(stream.readline())
    return said


def ask(process: subprocess.Popen[str], request: object) -> list[Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return answer(process)


async def asked(process: subprocess.Popen[str], request: object) -> list[Any]:
    return await asyncio.wait_for(asyncio.to_thread(ask, process, request), 30)


async def opens(backend: KeyringBackend, wrapped: str, key_id: str) -> str:
    opened = await backend.unwrap(bytes.fromhex(wrapped), KeyRef("appkey", key_id, 1), CONTEXT)
    return opened.reveal().hex()


async def test_new_key_is_readable_everywhere_before_anyone_seals_with_it(ring: Ring) -> None:
    """P54b: at each moment each process opens what the other sealed; neither is restarted."""
    here = ring.opened(clock=SystemClock())
    first = (await here.add_key()).key.key_id
    with started(SERVER, ring) as there:
        assert await asyncio.to_thread(answer, there) == ["ready", first]

        second = (await here.add_key()).key.key_id  # phase one: it only opens
        wrapped, key_id, plain = await asked(there, None)
        assert key_id == first
        assert await opens(here, wrapped, key_id) == plain

        await here.rotate()  # phase two: it seals
        made = await here.generate(CONTEXT)
        assert made.key.key_id == second
        assert await asked(there, [made.wrapped.hex(), second]) == [made.plaintext.reveal().hex()]
        wrapped, key_id, plain = await asked(there, None)
        assert key_id == second, "having read the file for the unknown key, it seals with the new primary too"
        assert await opens(here, wrapped, key_id) == plain

        await here.retire(KeyRef("appkey", first, 1))
        old = await asked(there, [made.wrapped.hex(), "app-key-00000000"])
        assert old == ["KeyNotFound", True]
        assert await asked(there, [made.wrapped.hex(), first]) == ["KeyDisabled", False]


async def test_two_operators_at_once_lose_no_key(ring: Ring) -> None:
    here = ring.opened(clock=SystemClock())
    await here.add_key()
    made = set()
    with started(WRITER, ring) as other:
        await asyncio.to_thread(answer, other)
        while len(made) < 5:
            try:
                made.add((await here.add_key()).key)
            except Conflict:
                await asyncio.sleep(0)
        theirs = {(await asyncio.to_thread(answer, other))[0] for _ in range(3)}
    known = {info.key for info in await here.keys()}
    assert made <= known
    assert theirs <= {key.key_id for key in known}


@pytest.mark.chaos
async def test_writer_that_is_killed_leaves_the_old_keyring_or_the_new_one(ring: Ring, chaos: Any) -> None:
    """P54: killed at any moment of adding, rotating and retiring; what was said to be done is there."""
    await ring.opened().add_key()
    known: set[str] = set()
    for _ in range(chaos.rounds(4, 50)):
        with started(WRITER, ring) as writer:
            await asyncio.to_thread(answer, writer)
            await asyncio.sleep(chaos.random.uniform(0, 0.15))
            writer.send_signal(signal.SIGKILL)
            rest = await asyncio.to_thread(writer.stdout.read)  # type: ignore[union-attr]
            told = {json.loads(line)[0] for line in rest.splitlines()}
        read = parse(SecretStr(ring.text()), ring.path)
        assert ring.path.stat().st_mode & 0o777 == 0o600
        present = {entry.id for entry in read.entries if entry.id is not None}
        assert told <= present
        assert known <= present, "a key that was there is there for ever, if only as retired"
        known = present
        backend = ring.opened()
        made = await backend.generate(CONTEXT)
        assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
        await backend.add_key()  # the dead writer's lock and its half-written file are in nobody's way
    assert {path.name for path in ring.path.parent.iterdir()} <= {"keys.toml", ".keys.toml.lock", ".keys.toml.new"}
