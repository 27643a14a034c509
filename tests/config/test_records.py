"""Times, and tables in lists, as settings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from go_services_core import SecretStr, setting, settings
from go_services_core.config import Config
from go_services_core.errors import ConfigError


@attrs.frozen(kw_only=True)
class Slot:
    name: str
    begins: datetime | None = None


def _short(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if len(value) > 5:
        raise ConfigError(f"{attribute.name} is longer than 5.", field=attribute.name)


@settings
class Calendar:
    title: str = setting(default="", help="", validator=_short)
    opened: datetime | None = setting(default=None, help="")
    slots: tuple[Slot, ...] = setting(default=(), help="")


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "go-services.toml"
    path.write_text(text)
    (made,) = Config.load(path, environ={}).bind("worker", Calendar, resolve=SecretStr)
    return made


def test_times_and_tables_in_lists_are_read(tmp_path: Path) -> None:
    text = (
        "[worker]\nopened = 2027-01-01T09:00:00+09:00\n"
        '[[worker.slots]]\nname = "a"\nbegins = 2027-01-02T00:00:00Z\n[[worker.slots]]\nname = "b"\n'
    )
    assert read(tmp_path, text) == Calendar(
        opened=datetime(2027, 1, 1, tzinfo=UTC),
        slots=(Slot(name="a", begins=datetime(2027, 1, 2, tzinfo=UTC)), Slot(name="b")),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[worker]\nopened = "2027-01-01"', r"worker\.opened \(.*line 2\): must be a date and time without quotes"),
        ("[worker]\nopened = 2027-01-01", r"worker\.opened .*, not a value of type date"),
        ("[[worker.slots]]\nnam = 'a'", r"worker\.slots\[0\]\.nam .*did you mean 'name'"),
        ('[worker]\ntitle = "too long"', r"worker .*: title is longer than 5"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text)
