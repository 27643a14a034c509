"""What the settings refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from go_services_core.errors import ConfigError
from go_services_core.secret import SecretStr
from go_services_envelope.policy import KeyWindow
from go_services_secrets_vault.settings import VaultSettings, usable

TOKEN = SecretStr("s.token")


def refused(**values: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        VaultSettings(**{"address": "https://vault:8200", "token": TOKEN, **values})
    assert caught.value.plugin == "secrets-vault"
    assert str(caught.value).startswith(f"{caught.value.field} ")
    return caught.value


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"auth": "token", "token": None}, ["token"]),
        ({"auth": "approle"}, ["role_id", "secret_id"]),
        ({"auth": "approle", "role_id": "r"}, ["secret_id"]),
        ({"auth": "approle", "secret_id": TOKEN}, ["role_id"]),
        ({"auth": "kubernetes"}, ["role"]),
        ({"auth": "kubernetes", "role": "web", "jwt": ""}, ["jwt"]),
    ],
)
def test_each_field_that_a_login_lacks_is_named(values: dict[str, Any], missing: list[str]) -> None:
    error = refused(**values)
    assert error.field == missing[0]
    assert all(name in str(error) for name in missing)
    if len(missing) > 1:
        assert f"{' and '.join(missing)} are not set" in str(error)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "vault",
        "vault:8200",
        "ftp://vault",
        "https://",
        "https://u:p@vault",
        "https://vault?x",
        "https://vault:99999",
    ],
)
def test_address_is_a_url_without_a_password(address: str) -> None:
    assert refused(address=address).field == "address"
    assert "u:p" not in str(refused(address=address))


@pytest.mark.parametrize(
    "values",
    [
        {"key": ""},
        {"key": "a/b"},
        {"key": "a b"},
        {"mount": ""},
        {"mount": "/transit"},
        {"mount": "transit/"},
        {"kv_mount": "a//b"},
        {"auth_mount": "a?b"},
        {"namespace": " a"},
        {"timeout": 0.0},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"max_attempts": 0},
        {"max_concurrency": 0},
        {"client_key": Path("k.pem")},
        {"compatible": ("services",)},
        {"compatible": ("../sys/services",)},
        {"windows": (KeyWindow(key="services:2"),)},
        {"mount": "a/../sys"},
        {"jwt": "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"},
    ],
)
def test_unusable_value_is_refused_by_name(values: dict[str, Any]) -> None:
    (name,) = values
    assert refused(**values).field == ("client_cert" if name == "client_key" else name)


@pytest.mark.parametrize("text", ["s.token\n", " s.token", "s.tok en", "s.tokén", ""])
def test_mangled_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match=r"secrets\.vault\.secret_id") as caught:
        usable(SecretStr(text), "secret_id")
    assert "s.tok" not in str(caught.value)
    assert usable(SecretStr("s.token"), "secret_id") == SecretStr("s.token")


def test_mount_of_the_login_is_its_own_name_unless_it_is_set() -> None:
    account = {"address": "https://vault:8200", "auth": "kubernetes", "role": "web"}
    assert VaultSettings(**account).login_mount == "kubernetes"
    assert VaultSettings(**account, auth_mount="eu/pods").login_mount == "eu/pods"
