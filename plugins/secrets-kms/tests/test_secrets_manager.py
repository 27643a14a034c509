"""Secrets of settings from Secrets Manager, through moto's server."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from go_services_core.clock import SystemClock
from go_services_core.config.secrets import SourceSettings
from go_services_core.errors import BackendUnavailable, ConfigError
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_secrets_kms.secrets_manager import SecretsManagerSource
from go_services_secrets_kms.settings import KmsSettings

from .conftest import AWAY, CREDENTIALS, HOME, Moto
from .kms_stub import KmsStub, Refusal

VALUE = "s3cret-client-value"


def source(url: str, **options: Any) -> SecretsManagerSource:
    given = {**CREDENTIALS, "region": HOME, "secrets_manager_url": url, **options}
    settings = SourceSettings(Path(), {}, KmsSettings(**given))
    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
    return SecretsManagerSource(settings, env)


@pytest.fixture
def stored(moto: Moto, request: pytest.FixtureRequest) -> Any:
    """Keeps a secret, and gives its ARN; its name is made of the test's."""
    made: list[tuple[str, str]] = []

    def keep(name: str, region: str = HOME, **content: Any) -> str:
        kept = moto.client("secretsmanager", region).create_secret(Name=name, **content)
        made.append((region, kept["ARN"]))
        return str(kept["ARN"])

    yield keep
    for region, arn in made:
        moto.client("secretsmanager", region).delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def test_whole_secret_and_one_member(moto: Moto, stored: Any) -> None:
    text = json.dumps({"client_secret": VALUE, "a#b": "odd"})
    arn = stored("app/git-hub@1", SecretString=text)
    asked = source(moto.url)
    assert asked.get("//app/git-hub@1") == SecretStr(text)
    assert asked.get("//app/git-hub@1#client_secret") == SecretStr(VALUE)
    assert asked.get("//app/git-hub@1#a#b") == SecretStr("odd")
    assert asked.get(f"//{arn}#client_secret") == SecretStr(VALUE)


def test_current_version_is_read_each_time(moto: Moto, stored: Any) -> None:
    arn = stored("app/rotated", SecretString="one")
    asked = source(moto.url)
    assert asked.get("//app/rotated") == SecretStr("one")
    moto.client("secretsmanager").put_secret_value(SecretId=arn, SecretString="two")
    assert asked.get("//app/rotated") == SecretStr("two")


def test_arn_is_asked_in_its_own_region(moto: Moto, stored: Any) -> None:
    arn = stored("app/away", AWAY, SecretString=VALUE)
    assert source(moto.url).get(f"//{arn}") == SecretStr(VALUE)
    with pytest.raises(ConfigError, match=f"does not exist.*{HOME}"):
        source(moto.url).get("//app/away")


@pytest.mark.parametrize(
    "name", ["app", "/app", "//", "//#field", "//app#", "//app?version=1", "//a b", "//app/ü", "//arn:aws:s3:::b"]
)
def test_text_that_is_no_reference_is_refused_before_anything_is_asked(name: str, home: KmsStub) -> None:
    with pytest.raises(ConfigError, match="aws-sm://NAME#FIELD") as caught:
        source(home.url).get(name)
    assert f"aws-sm:{name}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"SecretString": json.dumps({"other": VALUE})}, "#field"),
        ({"SecretString": json.dumps({"field": [VALUE]})}, "#field"),
        ({"SecretString": json.dumps({"field": None, "x": VALUE})}, "#field"),
        ({"SecretString": json.dumps({"field": "", "x": VALUE})}, "#field"),
        ({"SecretString": json.dumps([VALUE])}, "#field"),
        ({"SecretString": VALUE}, "#field"),
        ({"SecretString": '{"field": "' + VALUE}, "#field"),
        ({"SecretBinary": VALUE.encode()}, ""),
    ],
)
def test_secret_without_that_text_is_named_and_not_shown(
    moto: Moto, stored: Any, content: dict[str, Any], name: str
) -> None:
    stored("app/odd", **content)
    with pytest.raises(ConfigError) as caught:
        source(moto.url).get(f"//app/odd{name}")
    below = caught.tb.tb_next  # this frame knows the value
    report = traceback.TracebackException(caught.type, caught.value, below, capture_locals=True)
    shown = "".join(report.format()) + repr(caught.value.as_dict())
    assert "secret_id = 'app/odd'" in shown, "no locals: this test proves nothing"
    assert f"aws-sm://app/odd{name}" in str(caught.value)
    assert VALUE not in shown
    assert base64.b64encode(VALUE.encode()).decode() not in shown


def test_missing_secret_and_deleted_secret_are_told_apart(moto: Moto, stored: Any) -> None:
    with pytest.raises(ConfigError, match="aws-sm://app/none does not exist"):
        source(moto.url).get("//app/none")
    arn = stored("app/deleted", SecretString=VALUE)
    moto.client("secretsmanager").delete_secret(SecretId=arn)
    with pytest.raises(ConfigError, match="restore-secret"):
        source(moto.url).get(f"//{arn}")


def test_outage_is_told_from_refusal(home: KmsStub, unused_tcp_port: int) -> None:
    """The stub answers with the error before it looks at the operation."""
    home.answer = lambda *_: (_ for _ in ()).throw(home.always)  # type: ignore[method-assign, arg-type]
    asked = source(home.url, max_attempts=1)
    home.always = Refusal(500, "InternalServiceError")
    with pytest.raises(BackendUnavailable, match="aws-sm://app/x") as caught:
        asked.get("//app/x")
    assert caught.value.metadata["reason"] == "failing"
    home.always = Refusal(400, "AccessDeniedException", "is not authorized to perform: secretsmanager:GetSecretValue")
    with pytest.raises(ConfigError, match="secretsmanager:GetSecretValue with aws-sm://app/x"):
        asked.get("//app/x")
    home.always = Refusal(400, "DecryptionFailure")
    with pytest.raises(ConfigError, match="DecryptionFailure"):
        asked.get("//app/x")
    with pytest.raises(BackendUnavailable):
        source(f"http://127.0.0.1:{unused_tcp_port}", max_attempts=1).get("//app/x")
    with pytest.raises(ConfigError, match=r"aws-sm://app/x.*NoRegionError"):
        source(home.url, region=None).get("//app/x")
    with pytest.raises(ConfigError, match=r"aws-sm://app/x.*credentials"):
        source(home.url, access_key_id=None, secret_access_key=None).get("//app/x")


def test_nothing_secret_is_logged_at_any_level(moto: Moto, stored: Any, caplog: pytest.LogCaptureFixture) -> None:
    stored("app/logged", SecretString=VALUE)
    caplog.set_level(logging.DEBUG)
    assert source(moto.url).get("//app/logged") == SecretStr(VALUE)
    assert "botocore" in {record.name.partition(".")[0] for record in caplog.records}
    assert VALUE not in caplog.text
