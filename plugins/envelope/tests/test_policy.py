"""Windows and compatible keys: what is allowed when, and that no wrong option is dropped."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest

from go_services_core.config import Config, setting, settings
from go_services_core.errors import ConfigError, KeyDisabled, KeyNotFound
from go_services_core.model import KeyRef
from go_services_core.secret import SecretStr
from go_services_core.testing.clock import FrozenClock
from go_services_envelope.policy import KeyPolicy, KeyRules, KeyWindow

ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NOW = datetime(2027, 1, 10, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
KEY = KeyRef("kms", "current", 1)


def policy(now: datetime = NOW, **rules: Any) -> KeyPolicy:
    return KeyPolicy(
        KeyRules(**rules), plugin="secrets-kms", backend="kms", primary=lambda: ("current",), clock=FrozenClock(now)
    )


def windowed(now: datetime = NOW, *, key: str = "current", warn_days: float = 14, **bounds: datetime) -> KeyPolicy:
    return policy(now, windows=(KeyWindow(key=key, **bounds),), warn_days=warn_days)


@settings
class BackendSettings(KeyRules):
    url: str = setting(default="", help="Where it is")


USES = [("encrypt", KeyPolicy.may_wrap), ("decrypt", KeyPolicy.may_unwrap)]


@pytest.mark.parametrize(("use", "ask"), USES, ids=["encrypt", "decrypt"])
def test_both_ends_of_a_window_belong_to_it(use: str, ask: Any) -> None:
    begin, end = NOW, NOW + DAY
    bounds = {f"{use}_from": begin, f"{use}_until": end}
    for inside in (begin, begin + SECOND, end - SECOND, end):
        ask(windowed(inside, **bounds), KEY)
    for outside in (begin - timedelta(microseconds=1), end + timedelta(microseconds=1)):
        with pytest.raises(KeyDisabled):
            ask(windowed(outside, **bounds), KEY)


@pytest.mark.parametrize(("use", "ask"), USES, ids=["encrypt", "decrypt"])
def test_bound_that_is_absent_is_open(use: str, ask: Any) -> None:
    ask(windowed(datetime(1990, 1, 1, tzinfo=UTC), **{f"{use}_until": NOW}), KEY)
    ask(windowed(datetime(2190, 1, 1, tzinfo=UTC), **{f"{use}_from": NOW}), KEY)
    ask(windowed(key="other", **{f"{use}_until": NOW - DAY}), KEY)


def test_a_closed_encrypt_window_leaves_unwrapping_alone_and_the_other_way_round() -> None:
    """A key that wraps no more must go on unwrapping what it wrapped."""
    closed = windowed(encrypt_until=NOW - DAY)
    closed.may_unwrap(KEY)
    with pytest.raises(KeyDisabled):
        closed.may_wrap(KEY)
    early = windowed(decrypt_from=NOW + DAY)
    early.may_wrap(KEY)
    with pytest.raises(KeyDisabled):
        early.may_unwrap(KEY)


def test_times_of_other_offsets_are_compared_as_the_same_moment() -> None:
    east, west = timezone(timedelta(hours=9)), timezone(timedelta(hours=-7))
    end = NOW.astimezone(east).replace(microsecond=0)
    windowed(NOW.astimezone(west), encrypt_until=end).may_wrap(KEY)
    with pytest.raises(KeyDisabled, match=r"ended at 2027-01-10T12:00:00Z \(encrypt_until\)"):
        windowed((NOW + SECOND).astimezone(west), encrypt_until=end).may_wrap(KEY)


def test_key_outside_its_window_is_named_with_bound_and_remedy() -> None:
    with pytest.raises(KeyDisabled) as caught:
        windowed(encrypt_from=NOW + DAY).may_wrap(KEY)
    error = caught.value
    assert str(error) == (
        "Key current (version 1) of 'kms' may not encrypt now: its encrypt window begins at 2027-01-11T12:00:00Z "
        "(encrypt_from). Make another key primary, or change its window."
    )
    assert (error.plugin, error.field) == ("secrets-kms", "secrets.kms.windows")
    with pytest.raises(KeyDisabled, match=r"may not decrypt now.*ended.*\(decrypt_until\)"):
        windowed(decrypt_until=NOW - DAY).may_unwrap(KEY)


def test_window_of_a_version_takes_the_place_of_that_of_its_key() -> None:
    both = policy(
        windows=(
            KeyWindow(key="current", encrypt_until=NOW - DAY),
            KeyWindow(key="current:3", encrypt_until=NOW + DAY),
        )
    )
    both.may_wrap(KeyRef("kms", "current", 3))
    for version in (1, 2, 33):
        with pytest.raises(KeyDisabled):
            both.may_wrap(KeyRef("kms", "current", version))


@pytest.mark.parametrize(
    ("compatible", "key_id", "version", "allowed"),
    [
        ("old", "old", 1, True),
        ("old", "old", 7, True),
        ("old:7", "old", 7, True),
        ("old:7", "old", 8, False),
        ("old:7", "old:7", 1, False),
        ("old", "older", 1, False),
        (ARN, ARN, 1, True),
        (ARN, ARN.rpartition(":")[0], 1, False),
        (f"{ARN}:2", ARN, 2, True),
        (f"{ARN}:2", ARN, 1, False),
        ("transit:a", "transit:a", 5, True),
        ("transit:5:a", "transit:5:a", 1, True),
    ],
)
def test_compatible_key_is_an_id_or_an_id_with_a_version(
    compatible: str, key_id: str, version: int, allowed: bool
) -> None:
    made = policy(compatible=(compatible,))
    key = KeyRef("kms", key_id, version)
    if allowed:
        made.may_unwrap(key)
        return
    with pytest.raises(KeyNotFound):
        made.may_unwrap(key)


def test_key_that_is_neither_primary_nor_compatible_is_refused_and_both_are_named() -> None:
    made = policy(compatible=("old:2", ARN))
    made.may_unwrap(KeyRef("kms", "current", 99))
    with pytest.raises(KeyNotFound) as caught:
        made.may_unwrap(KeyRef("kms", "older", 4))
    assert "older (version 4)" in caught.value.message
    assert f"{ARN}, current, old:2" in caught.value.message
    assert caught.value.field == "secrets.kms.compatible"
    assert caught.value.plugin == "secrets-kms"


def test_primary_keys_are_asked_each_time() -> None:
    own = ["a"]
    made = KeyPolicy(KeyRules(), plugin="secrets-kms", backend="kms", primary=lambda: own, clock=FrozenClock(NOW))
    made.may_unwrap(KeyRef("kms", "a", 1))
    own[:] = ["b"]
    made.may_unwrap(KeyRef("kms", "b", 1))
    with pytest.raises(KeyNotFound):
        made.may_unwrap(KeyRef("kms", "a", 1))


def test_allow_any_key_goes_past_the_set_but_not_past_windows_or_to_another_backend() -> None:
    made = policy(allow_any_key=True, windows=(KeyWindow(key="old", decrypt_until=NOW - DAY),))
    made.may_unwrap(KeyRef("kms", "anything", 12))
    with pytest.raises(KeyDisabled):
        made.may_unwrap(KeyRef("kms", "old", 1))
    with pytest.raises(KeyNotFound, match="'vault'"):
        made.may_unwrap(KeyRef("vault", "anything", 12))


@pytest.mark.parametrize(
    ("left", "warn_days", "expected"),
    [
        (timedelta(days=9, hours=23), 14, ("encrypt window ends on 2027-01-20, in 9 days",)),
        (timedelta(days=14), 14, ("encrypt window ends on 2027-01-24, in 14 days",)),
        (timedelta(days=14, seconds=1), 14, ()),
        (timedelta(days=1), 14, ("encrypt window ends on 2027-01-11, in 1 day",)),
        (timedelta(hours=3), 14, ("encrypt window ends on 2027-01-10, in less than a day",)),
        (timedelta(0), 0, ("encrypt window ends on 2027-01-10, in less than a day",)),
        (timedelta(seconds=1), 0, ()),
        (timedelta(days=-3), 14, ("encrypt window ended on 2027-01-07",)),
    ],
)
def test_warning_comes_with_its_lead_time(left: timedelta, warn_days: float, expected: tuple[str, ...]) -> None:
    assert windowed(encrypt_until=NOW + left, warn_days=warn_days).warnings(KEY) == expected


def test_warnings_name_each_window_that_needs_attention() -> None:
    made = windowed(encrypt_from=NOW + 3 * DAY, encrypt_until=NOW + 90 * DAY, decrypt_until=NOW + 2 * DAY)
    assert made.warnings(KEY) == (
        "encrypt window begins on 2027-01-13, in 3 days",
        "decrypt window ends on 2027-01-12, in 2 days",
        "decrypt window ends on 2027-01-12, before the encrypt window",
    )
    assert made.warnings(KeyRef("kms", "other", 1)) == ()
    assert windowed(encrypt_until=NOW + 90 * DAY, decrypt_until=NOW + 91 * DAY).warnings(KEY) == ()


@pytest.mark.parametrize("key", ["", "  ", " k", "k ", ":3", "k:", "k:0", "k:2147483648", "k:99999999999999", "k :3"])
@pytest.mark.parametrize("field", ["key", "compatible"])
def test_text_that_names_no_key_is_refused_with_its_field(key: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KeyWindow(key=key) if field == "key" else KeyRules(compatible=("good", key))
    assert caught.value.field == field
    assert field in caught.value.message


@pytest.mark.parametrize("field", ["encrypt_from", "encrypt_until", "decrypt_from", "decrypt_until"])
def test_time_without_offset_is_refused_with_its_field(field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KeyWindow(key="k", **{field: datetime(2027, 1, 1)})
    assert caught.value.field == field
    assert field in caught.value.message


@pytest.mark.parametrize("use", ["encrypt", "decrypt"])
def test_window_that_ends_before_it_begins_is_refused(use: str) -> None:
    bounds: dict[str, Any] = {f"{use}_from": NOW, f"{use}_until": NOW - SECOND}
    with pytest.raises(ConfigError) as caught:
        KeyWindow(key="k", **bounds)
    assert caught.value.field == f"{use}_until"
    KeyWindow(key="k", **(bounds | {f"{use}_until": NOW}))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("windows", (KeyWindow(key="k"), KeyWindow(key="k"))),
        ("windows", (KeyWindow(key="k:1"), KeyWindow(key="k:01"))),
        ("compatible", ("k", "k")),
        ("warn_days", -1),
        ("warn_days", float("nan")),
        ("warn_days", float("inf")),
    ],
)
def test_rule_that_cannot_be_used_is_refused_with_its_field(field: str, wrong: Any) -> None:
    for cls in (KeyRules, BackendSettings):
        with pytest.raises(ConfigError) as caught:
            cls(**{field: wrong})
        assert caught.value.field == field
        assert field in caught.value.message


FILE = """
[secrets.kms]
url = "https://kms.example"
compatible = ["old", "{arn}"]
warn_days = 30

[[secrets.kms.windows]]
key = "current"
encrypt_from = 2027-01-01T00:00:00+09:00
encrypt_until = 2027-02-01T00:00:00Z

[[secrets.kms.windows]]
key = "old"
decrypt_until = 2027-03-01T00:00:00Z
"""


def read(tmp_path: Path, text: str) -> BackendSettings:
    path = tmp_path / "go-services.toml"
    path.write_text(text)

    def resolve(reference: str) -> SecretStr:
        raise AssertionError(f"{reference} is no secret")

    (made,) = Config.load(path, environ={}).bind("secrets.kms", BackendSettings, resolve=resolve)
    assert isinstance(made, BackendSettings)
    return made


def test_rules_are_read_from_the_configuration(tmp_path: Path) -> None:
    made = read(tmp_path, FILE.replace("{arn}", ARN))
    assert (made.url, made.compatible, made.warn_days) == ("https://kms.example", ("old", ARN), 30)
    assert made.windows == (
        KeyWindow(
            key="current",
            encrypt_from=datetime(2026, 12, 31, 15, tzinfo=UTC),
            encrypt_until=datetime(2027, 2, 1, tzinfo=UTC),
        ),
        KeyWindow(key="old", decrypt_until=datetime(2027, 3, 1, tzinfo=UTC)),
    )
    assert attrs.evolve(made, compatible=()).compatible == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[secrets.kms.windows]]\nkey = " "', ["secrets.kms.windows[0]", "line", "key"]),
        (
            '[[secrets.kms.windows]]\nkey = "k"\nencrypt_until = 2027-01-01T00:00:00',
            ["secrets.kms.windows[0]", "encrypt_until must be a date and time with an offset"],
        ),
        (
            '[[secrets.kms.windows]]\nkey = "k"\ndecrypt_until = "2027-01-01T00:00:00Z"',
            ["secrets.kms.windows[0].decrypt_until", "line 1", "without quotes", "not text"],
        ),
        (
            '[[secrets.kms.windows]]\nkey = "k"\ndecrypt_until = 2027-01-01',
            ["secrets.kms.windows[0].decrypt_until", "a date and time", "of type date"],
        ),
        (
            '[[secrets.kms.windows]]\nkey = "k"\nencrypt_untill = 2027-01-01T00:00:00Z',
            ["secrets.kms.windows[0].encrypt_untill", "did you mean 'encrypt_until'"],
        ),
        ("[[secrets.kms.windows]]\nencrypt_until = 2027-01-01T00:00:00Z", ["secrets.kms.windows[0].key is not set"]),
        ('[[secrets.kms.windows]]\nkey = "k"\n[[secrets.kms.windows]]\nkey = "k"', ["windows: the key 'k'"]),
        ('[secrets.kms]\ncompatible = ["a", ""]', ["compatible: a key may not be blank"]),
        ("[secrets.kms]\nwarn_days = nan", ["warn_days must be 0 to"]),
        ('[secrets.kms]\nallow_any_key = "yes"', ["secrets.kms.allow_any_key", "true or false"]),
        ("[secrets.kms]\nallow_any = true", ["secrets.kms.allow_any", "did you mean"]),
    ],
)
def test_rule_of_the_configuration_that_cannot_be_used_is_named_with_its_place(
    tmp_path: Path, text: str, named: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    for part in named:
        assert part in str(caught.value)


def test_importing_the_policy_imports_no_cryptography() -> None:
    code = (
        "import sys, go_services_envelope, go_services_envelope.policy\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('cryptography', 'asyncio', 'aiohttp')))\n"
        "from go_services_envelope import Sealer\n"
        "print('cryptography' in sys.modules, 'Sealer' in dir(go_services_envelope))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "True True"]
    import go_services_envelope

    with pytest.raises(AttributeError, match="no attribute 'Unsealer'"):
        _ = go_services_envelope.Unsealer
