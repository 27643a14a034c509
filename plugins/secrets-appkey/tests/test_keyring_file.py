"""The keyring on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from go_services_core.errors import Conflict, KeyInvalid, KeyNotFound
from go_services_core.secret import SecretStr
from go_services_secrets_appkey.key import generate_key
from go_services_secrets_appkey.keyring import Entry, Keyring, render
from go_services_secrets_appkey.keyring_file import KeyringFile

INLINE = Keyring((Entry(id="a", state="primary", key=generate_key()),))
ELSEWHERE = Keyring((Entry(id="a", state="primary", source="env:KEY"),))


@pytest.fixture
def file(tmp_path: Path) -> KeyringFile:
    return KeyringFile(tmp_path / "keys.toml")


def put(file: KeyringFile, keyring: Keyring, mode: int) -> None:
    file.path.write_text(render(keyring).reveal(), encoding="utf-8")
    file.path.chmod(mode)


def test_first_write_makes_a_file_that_only_its_owner_reads(file: KeyringFile) -> None:
    before = os.umask(0)
    try:
        file.replace(INLINE)
    finally:
        os.umask(before)
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.read()[0] == INLINE
    assert [path.name for path in file.path.parent.iterdir()] == ["keys.toml"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o622, 0o700 | 0o010])
def test_file_with_keys_that_others_may_read_is_refused_with_the_remedy(file: KeyringFile, mode: int) -> None:
    put(file, INLINE, mode)
    with pytest.raises(KeyInvalid, match=f"{mode:04o}") as caught:
        file.read()
    assert f"chmod 600 {file.path}" in str(caught.value)
    put(file, INLINE, 0o600)
    assert file.read()[0] == INLINE


def test_file_with_references_only_may_be_read_by_others_but_not_changed(file: KeyringFile) -> None:
    put(file, ELSEWHERE, 0o644)
    assert file.read()[0] == ELSEWHERE
    for mode in (0o664, 0o646):
        put(file, ELSEWHERE, mode)
        with pytest.raises(KeyInvalid, match="may change it"):
            file.read()


def test_key_is_not_written_into_a_file_that_others_read(file: KeyringFile) -> None:
    put(file, ELSEWHERE, 0o644)
    before = file.path.read_bytes()
    with pytest.raises(KeyInvalid, match="chmod 600"):
        file.replace(INLINE)
    assert file.path.read_bytes() == before


def test_mode_and_owner_stay(file: KeyringFile) -> None:
    put(file, ELSEWHERE, 0o640)
    if os.geteuid() == 0:
        os.chown(file.path, 65534, 65534)
    before = file.path.stat()
    file.replace(Keyring((*ELSEWHERE.entries, Entry(id="b", state="decrypt-only", source="env:B"))))
    after = file.path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert len(file.read()[0].entries) == 2


def test_link_to_the_keyring_stays_a_link(file: KeyringFile, tmp_path: Path) -> None:
    put(file, INLINE, 0o600)
    link = KeyringFile(tmp_path / "link.toml")
    link.path.symlink_to("keys.toml")
    link.replace(ELSEWHERE)
    assert link.path.is_symlink()
    assert file.read()[0] == link.read()[0] == ELSEWHERE


def test_what_a_killed_process_left_is_overwritten(file: KeyringFile) -> None:
    left = file.path.with_name(".keys.toml.new")
    left.write_text("half")
    left.chmod(0o666)
    file.replace(INLINE)
    assert file.read()[0] == INLINE
    assert not left.exists()


def test_prepared_link_in_the_place_of_the_new_file_is_not_followed(file: KeyringFile, tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    bait.write_text("untouched")
    file.path.with_name(".keys.toml.new").symlink_to(bait)
    file.replace(INLINE)
    assert bait.read_text() == "untouched"
    assert file.read()[0] == INLINE


@pytest.mark.parametrize(
    ("content", "words"), [(b"\xff\xfe", "not text in UTF-8"), (b"#" * (1 << 20) + b"#", "over one MiB")]
)
def test_file_that_is_no_text_is_refused(file: KeyringFile, content: bytes, words: str) -> None:
    file.path.write_bytes(content)
    with pytest.raises(KeyInvalid, match=words):
        file.read()


def test_missing_file_and_folder_are_named(file: KeyringFile) -> None:
    with pytest.raises(KeyNotFound, match=str(file.path)):
        file.read()
    assert file.signature() is None
    nowhere = KeyringFile(file.path.parent / "none" / "keys.toml")
    with pytest.raises(KeyInvalid, match="cannot be written: No such file"):
        nowhere.replace(INLINE)
    with pytest.raises(KeyInvalid, match="cannot be locked: No such file"), nowhere.locked():
        pass
    folder = KeyringFile(file.path.parent)
    with pytest.raises(KeyInvalid, match="cannot be read: Is a directory"):
        folder.read()


def test_signature_changes_with_each_replacement(file: KeyringFile) -> None:
    seen = set()
    for _ in range(20):
        file.replace(INLINE)
        seen.add(file.signature())
        assert file.read()[1] == file.signature()
    assert len(seen) == 20


def test_second_operator_is_refused_while_the_first_writes(file: KeyringFile) -> None:
    with file.locked(), pytest.raises(Conflict, match="being changed"), KeyringFile(file.path).locked():
        pass
    with file.locked():
        pass


def test_lock_ends_with_its_process(file: KeyringFile) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from go_services_secrets_appkey.keyring_file import KeyringFile\n"
        "with KeyringFile(Path(sys.argv[1])).locked():\n"
        "    print('locked', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(file.path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "locked\n"
            with pytest.raises(Conflict), file.locked():
                pass
        finally:
            holder.kill()
            holder.wait(timeout=30)
    with file.locked():
        pass


def test_reader_never_sees_half_a_file(file: KeyringFile) -> None:
    forms = [Keyring((Entry(id=f"k{n}", state="primary", source="env:" + "X" * n * 500),)) for n in range(1, 6)]
    file.replace(forms[0])
    problems: list[Any] = []
    done = threading.Event()

    def reading() -> None:
        while not done.is_set():
            try:
                assert file.read()[0] in forms
            except BaseException as error:
                problems.append(error)
                return

    thread = threading.Thread(target=reading)
    thread.start()
    for turn in range(60):
        file.replace(forms[turn % 5])
    done.set()
    thread.join(timeout=30)
    assert not problems


def test_error_of_the_writer_holds_no_key(file: KeyringFile) -> None:
    import traceback

    put(file, ELSEWHERE, 0o644)
    with pytest.raises(KeyInvalid) as caught:
        file.replace(INLINE)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    key = INLINE.primary.key
    assert isinstance(key, SecretStr)
    assert key.reveal() not in shown
