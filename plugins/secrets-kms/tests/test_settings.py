"""Settings that cannot be used stop the start, and name themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from go_services_core.config import Config
from go_services_core.errors import ConfigError
from go_services_core.secret import SecretStr
from go_services_envelope.policy import KeyWindow
from go_services_secrets_kms.settings import KmsSettings

ID = "11111111-2222-3333-4444-555555555555"
ARN = f"arn:aws:kms:eu-west-1:111122223333:key/{ID}"
MRK = "arn:aws:kms:eu-west-1:111122223333:key/mrk-" + "1" * 32
AWAY = MRK.replace("eu-west-1", "us-east-1")
SECRET = SecretStr("x")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key": ID},
        {"key": ARN, "region": "eu-west-1"},
        {"key": MRK, "region": "us-east-1", "endpoints": ("eu-west-1", "us-gov-west-1=https://kms.example:8443")},
        {"key": "alias/app/x_y-1"},
        {"key": "arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/app"},
        {"compatible": (ARN, f"{AWAY}:1")},
        {"windows": (KeyWindow(key=ARN),)},
        {"compatible": ("any name:7",), "go_envelopes": True},
        {"endpoint_url": "http://127.0.0.1:4566"},
        {"endpoint_url": "http://[::1]:4566"},
        {"access_key_id": SECRET, "secret_access_key": SECRET, "session_token": SECRET},
    ],
)
def test_usable(options: dict[str, Any]) -> None:
    KmsSettings(**options)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("key", {"key": "app"}),
        ("key", {"key": ""}),
        ("key", {"key": "alias/"}),
        ("key", {"key": f" {ID}"}),
        ("key", {"key": ID[:-1]}),
        ("key", {"key": "arn:aws:s3:eu-west-1:111122223333:key/" + ID}),
        ("region", {"region": "Ireland"}),
        ("region", {"region": ""}),
        ("region", {"key": ARN, "region": "us-east-1"}),
        ("endpoint_url", {"endpoint_url": "kms.example"}),
        ("endpoint_url", {"endpoint_url": "ftp://kms.example"}),
        ("endpoint_url", {"endpoint_url": "http://kms.example"}),
        ("endpoint_url", {"endpoint_url": "https://user:pass@kms.example"}),
        ("endpoint_url", {"endpoint_url": "https://kms.example:port"}),
        ("endpoint_url", {"endpoint_url": "https://kms.example/?x=1"}),
        ("secrets_manager_url", {"secrets_manager_url": "http://sm.example"}),
        ("endpoints", {"endpoints": ("us",)}),
        ("endpoints", {"endpoints": ("https://kms.example",)}),
        ("endpoints", {"endpoints": ("us-east-1=http://kms.example",)}),
        ("endpoints", {"endpoints": ("us-east-1", "us-east-1=https://kms.example")}),
        ("endpoints", {"key": ARN, "endpoints": ("eu-west-1",)}),
        ("secret_access_key", {"access_key_id": SECRET}),
        ("access_key_id", {"secret_access_key": SECRET}),
        ("session_token", {"session_token": SECRET}),
        ("profile", {"profile": "p", "access_key_id": SECRET, "secret_access_key": SECRET}),
        ("profile", {"profile": " "}),
        ("connect_timeout", {"connect_timeout": 0.0}),
        ("read_timeout", {"read_timeout": float("nan")}),
        ("timeout", {"timeout": float("inf")}),
        ("timeout", {"timeout": -1.0}),
        ("max_attempts", {"max_attempts": 0}),
        ("max_concurrency", {"max_concurrency": 65}),
        ("compatible", {"compatible": ("alias/old",)}),
        ("compatible", {"compatible": (ID,)}),
        ("compatible", {"compatible": (f"{ARN}:2",)}),
        ("compatible", {"compatible": ("",)}),
        ("compatible", {"compatible": (MRK, AWAY)}),
        ("windows", {"windows": (KeyWindow(key="alias/old"),)}),
        ("windows", {"key": MRK, "windows": (KeyWindow(key=AWAY),)}),
        ("warn_days", {"warn_days": -1.0}),
    ],
)
def test_refused_with_its_field(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        KmsSettings(**options)
    assert caught.value.field == field
    assert "pass@" not in str(caught.value)


def test_unknown_setting_is_refused_and_the_table_needs_no_key(tmp_path: Path) -> None:
    file = tmp_path / "go-services.toml"
    file.write_text('[secrets.kms]\nkeys = "alias/app"\n')
    with pytest.raises(ConfigError, match=r"secrets\.kms\.keys.*did you mean 'key'"):
        Config.load(file, environ={}).bind("secrets.kms", KmsSettings, resolve=SecretStr)
    file.write_text('[secrets.kms]\nregion = "eu-west-1"\nsecret_access_key = "env:S"\naccess_key_id = "env:A"\n')
    (bound,) = Config.load(file, environ={}).bind("secrets.kms", KmsSettings, resolve=SecretStr)
    assert bound.key is None
    assert "env:" not in repr(bound), "a resolved secret is printed"


def test_windows_are_read_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "go-services.toml"
    file.write_text(f'[[secrets.kms.windows]]\nkey = "{ARN}"\nencrypt_until = 2027-01-31T00:00:00Z\n')
    (bound,) = Config.load(file, environ={}).bind("secrets.kms", KmsSettings, resolve=SecretStr)
    assert [window.key for window in bound.windows] == [ARN]
