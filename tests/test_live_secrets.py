"""Which values this process searches for, and how many of them it keeps."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from go_services_core.live_secrets import DISTINCTIVE, LIVE, LiveSecrets, is_distinctive
from go_services_core.redaction import mask
from go_services_core.secret import MASK, SecretBytes, SecretStr


def test_a_secret_is_searched_for_as_soon_as_it_is_made_and_again_when_it_is_used() -> None:
    early = SecretStr("token-0123456789abcdef")
    assert mask("<token-0123456789abcdef>") == f"<{MASK}>"
    LIVE.known, LIVE.generations = set(), ([], [])
    assert mask("<token-0123456789abcdef>") == "<token-0123456789abcdef>"
    early.reveal()
    assert mask("<token-0123456789abcdef>") == f"<{MASK}>"


def test_binary_keys_are_searched_for_and_whole_plaintexts_are_not() -> None:
    key = bytes(range(100, 132))
    SecretBytes(key)
    assert mask(f"key={key.hex()}") == f"key={MASK}"
    SecretBytes(b'{"scope": "everything that was sealed", "and": "more than that, at length"}')
    assert "everything that was sealed" in mask("everything that was sealed")


@pytest.mark.parametrize(
    "word", ["", "a", "1234", "secret", "password", "the key", "open sesame", "2026-11-22", "12345678", "go-services"]
)
def test_what_ordinary_text_may_hold_by_chance_is_not_searched_for(word: str) -> None:  # P43
    SecretStr(word)
    assert not is_distinctive(word)
    text = f"the {word} of the {word}s: 1234 secrets and passwords, go-services 2026-11-22 12345678"
    assert mask(text) == text


@pytest.mark.parametrize("value", ["hunter2hunter2", "P@ssword!", "s3cr3t-pw", "x" * DISTINCTIVE, "Tr0ub4dor&3"])
def test_what_text_holds_for_one_reason_only_is_searched_for(value: str) -> None:
    SecretStr(value)
    assert is_distinctive(value)
    assert mask(f"said {value}, or so") == f"said {MASK}, or so"


def test_a_value_that_is_not_long_is_found_where_it_stands_alone() -> None:  # P43
    SecretStr("route66b")
    assert mask("route66bis is a road") == "route66bis is a road"
    for around in ("(route66b)", "pin=route66b&x", "x%3Droute66b%26", '"a\\nroute66b"', "route66b"):
        assert "route66b" not in mask(around), around


def test_names_that_are_kept_with_secrets_are_not_searched_for() -> None:
    name = SecretStr("alice@acme.example", name=True)
    name.reveal()
    assert mask("alice@acme.example is known") == "alice@acme.example is known"
    assert str(name) == MASK


def test_values_are_kept_up_to_a_number_and_those_in_use_the_longest() -> None:
    live = LiveSecrets(size=10)
    used = "used-all-the-time-0123"
    for number in range(1000):
        live.add(f"token-of-connection-{number:06}")
        if used not in live.known:
            live.add(used)
    kept = [value for generation in live.generations for value in generation]
    assert len(kept) <= 20
    assert used in kept
    assert "token-of-connection-000999" in kept
    assert "token-of-connection-000900" not in kept


def test_what_is_forgotten_is_found_no_more_and_takes_no_room() -> None:
    from go_services_core import redaction
    from go_services_core.live_secrets import GENERATION

    SecretStr("the-first-of-all-0123")
    for number in range(4 * GENERATION):
        SecretStr(f"token-of-connection-{number:06}")
        if number % 500 == 0:
            mask("to have what is there indexed")
    assert mask("the-first-of-all-0123") == "the-first-of-all-0123"
    assert mask(f"token-of-connection-{4 * GENERATION - 1:06}") == MASK
    held = sum(one.count for one in redaction._indexed)
    assert held <= 2 * GENERATION


def test_threads_may_make_and_mask_secrets_at_once() -> None:
    failures: list[str] = []

    def work(name: int) -> None:
        for number in range(400):
            value = f"token-{name}-{number:012}"
            SecretStr(value)
            if value in mask(f"sent {value} there"):
                failures.append(value)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_fork_while_another_thread_holds_the_lock_does_not_hang_the_child() -> None:
    from go_services_core import redaction

    with LIVE._lock, redaction._lock:
        child = os.fork()
        if child == 0:
            SecretStr("made-in-the-child-0123")
            os._exit(0 if mask("made-in-the-child-0123") == MASK else 1)
    ended, status = os.waitpid(child, 0)
    assert (ended, os.waitstatus_to_exitcode(status)) == (child, 0)
