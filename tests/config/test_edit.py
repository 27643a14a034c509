from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.config import set_value, unset_value
from go_services_core.errors import ConfigError

TEXT = """\
# our configuration
[runtime]
cache_seconds = 5   # seconds

[store]  # the store
url = "sqlite:///a.db"
# pool = 3

[providers.acme]
grants = [
  "a",  # first
]
api = { base_url = "https://a.example" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("key", "text", "before", "after"),
    [
        ("runtime.cache_seconds", "7.5", "= 5   # seconds", "= 7.5   # seconds"),
        ("store.url", "postgresql://h/d", '"sqlite:///a.db"', '"postgresql://h/d"'),
        ("store.pool", "3", '"sqlite:///a.db"\n', '"sqlite:///a.db"\npool = 3\n'),
        ("runtime.callback_url", "https://x", "# seconds\n", '# seconds\ncallback_url = "https://x"\n'),
        ("providers.acme.grants", '["b"]', '[\n  "a",  # first\n]', '["b"]'),
        ("providers.acme.client_id", "'12'", 'a.example" }\n', "a.example\" }\nclient_id = '12'\n"),
    ],
)
def test_a_value_is_set_and_nothing_else_is_touched(file, key, text, before, after):
    set_value(file, key, text)
    assert file.read_text() == TEXT.replace(before, after, 1)


def test_a_new_table_is_added_at_the_end(file):
    set_value(file, 'providers."odd id".client_id', "x")
    assert file.read_text() == TEXT + '\n[providers."odd id"]\nclient_id = "x"\n'


def test_a_file_without_a_line_break_at_its_end_is_kept_valid(file):
    file.write_text("[store]\nurl = 'a'")
    set_value(file, "store.pool", "2")
    assert file.read_text() == "[store]\nurl = 'a'\npool = 2\n"
    file.write_text("[store]")
    set_value(file, "store.pool", "2")
    set_value(file, "worker.batch", "3")
    assert file.read_text() == "[store]\npool = 2\n\n[worker]\nbatch = 3\n"


def test_line_endings_stay_as_they_are(file):
    file.write_bytes(TEXT.replace("\n", "\r\n").encode())
    set_value(file, "store.pool", "3")
    set_value(file, "store.url", "x")
    unset_value(file, "runtime.cache_seconds")
    data = file.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n")
    assert tomllib.loads(data.decode())["store"] == {"url": "x", "pool": 3}


def test_a_value_is_taken_out_with_its_line(file):
    unset_value(file, "runtime.cache_seconds")
    assert file.read_text() == TEXT.replace("cache_seconds = 5   # seconds\n", "")
    unset_value(file, "providers.acme.grants")
    assert tomllib.loads(file.read_text())["providers"]["acme"] == {"api": {"base_url": "https://a.example"}}


@pytest.mark.parametrize("key", ["providers.acme.api.base_url", "providers.acme.api.headers"])
def test_what_stands_inside_a_value_is_refused_and_the_file_stays(file, key):
    with pytest.raises(ConfigError, match=r"by hand"):
        set_value(file, key, "x")
    assert file.read_text() == TEXT


def test_values_and_tables_are_not_confused(file):
    for key in ("providers.acme", "runtime.cache_seconds.x"):
        with pytest.raises(ConfigError, match="table"):
            set_value(file, key, "x")
    with pytest.raises(ConfigError, match="is not set"):
        unset_value(file, "store.pool")
    with pytest.raises(ConfigError, match="by hand"):
        unset_value(file, "providers.acme.api.base_url")
    for key in ("store", "store.", "", "a b.c"):
        with pytest.raises(ConfigError, match="not a dotted key"):
            set_value(file, key, "x")
    assert file.read_text() == TEXT


def test_a_file_that_is_not_toml_is_left_alone(file):
    file.write_text("[store\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        set_value(file, "store.url", "x")
    assert file.read_text() == "[store\n"
    with pytest.raises(ConfigError, match="does not exist"):
        unset_value(file.with_name("absent.toml"), "store.url")


def test_the_mode_is_kept_links_are_followed_and_new_files_are_private(file, tmp_path):
    file.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    set_value(link, "store.url", "x")
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    new = tmp_path / "new.toml"
    set_value(new, "store.url", "x")
    assert new.read_text() == '[store]\nurl = "x"\n'
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", "link.toml", "new.toml"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        set_value(tmp_path / "absent" / "c.toml", "store.url", "x")


@hypothesis.settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_can_be_set_and_read_back(tmp_path_factory, text):
    file = tmp_path_factory.mktemp("edit") / "c.toml"
    file.write_text(TEXT)
    set_value(file, "store.url", text)
    expected = tomllib.loads(TEXT)
    found = tomllib.loads(file.read_text())
    value = found["store"].pop("url")
    expected["store"].pop("url")
    assert found == expected
    assert value == text or not isinstance(value, str) or text.strip()[0] in "\"'"
