"""``init``, ``config``, ``configure``, ``providers`` and ``store``."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from .conftest import Install, Run


def read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "go-services.toml").read_text())


def test_init_writes_a_valid_configuration_and_a_private_key(run: Run, folder: Path) -> None:
    os.umask(0)  # the key must be private whatever the umask says
    run("init")
    os.umask(0o022)
    key = folder / "go-services.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert read(folder)["secrets"]["appkey"] == {"key": "file:go-services.key"}
    assert key.read_text().strip() not in (folder / "go-services.toml").read_text()
    assert "is valid" in run("config", "validate").stdout


def test_init_refuses_to_replace_either_file_without_force(run: Run, folder: Path) -> None:
    (folder / "go-services.key").write_text("precious")
    result = run("init", code=1)
    assert "go-services.key exists already" in result.stderr
    assert not (folder / "go-services.toml").exists()
    assert (folder / "go-services.key").read_text() == "precious"
    run("init", "--force")
    assert (folder / "go-services.key").read_text() != "precious"
    assert stat.S_IMODE((folder / "go-services.key").stat().st_mode) == 0o600


def test_init_dry_run_writes_nothing(run: Run, folder: Path) -> None:
    assert "Would write go-services.toml" in run("init", "--dry-run").stdout
    assert not list(folder.iterdir())


def test_init_writes_where_config_says(run: Run, folder: Path) -> None:
    run("--config", "deploy/app.toml", "init")
    assert {path.name for path in (folder / "deploy").iterdir()} == {"app.toml", "go-services.key"}
    run("--config", "deploy/app.toml", "config", "validate")


def test_show_names_the_origin_of_every_value(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init")
    monkeypatch.setenv("GO_SERVICES__WORKER__BATCH", "7")
    shown = {one["key"]: one for one in json.loads(run("config", "show", "--json").stdout)["values"]}
    assert str(shown["worker.batch"]["value"]) == "7"
    assert shown["worker.batch"]["origin"] == "environment variable GO_SERVICES__WORKER__BATCH"
    assert shown["store.url"]["origin"].startswith("go-services.toml line ")
    assert shown["worker.lease"]["origin"] == "default"
    assert "ORIGIN" in run("config", "show", "--origin").stdout
    assert "ORIGIN" not in run("config", "show").stdout


def test_set_and_unset_change_one_value_and_keep_the_rest(run: Run, folder: Path) -> None:
    run("init")
    before = (folder / "go-services.toml").read_text()
    assert "Would set worker.batch = 20" in run("config", "set", "worker.batch", "20", "--dry-run").stdout
    assert (folder / "go-services.toml").read_text() == before
    run("config", "set", "worker.batch", "20")
    assert read(folder)["worker"] == {"batch": 20}
    assert run("config", "get", "worker.batch").stdout == "20\n"
    run("config", "unset", "worker.batch")
    assert run("config", "get", "worker.batch").stdout == "50\n"
    assert before.rstrip() in (folder / "go-services.toml").read_text()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("worker.batch", "many", "worker.batch"),
        ("worker.bach", "1", "batch"),
        ("wroker.batch", "1", "did you mean [worker]?"),
        ("secrets.appkey.key", "gsk1_in_clear", "reference"),
        ("store.url", "mysql://h/d", "mysql"),
    ],
)
def test_value_that_is_not_valid_is_refused_and_the_file_stays(
    run: Run, folder: Path, key: str, value: str, said: str
) -> None:
    run("init")
    before = (folder / "go-services.toml").read_bytes()
    result = run("config", "set", key, value, code=3)
    assert said in result.stderr
    assert "The file was not changed." in result.stderr
    assert (folder / "go-services.toml").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"go-services.toml", "go-services.key"}


def test_set_without_a_file_points_to_init(run: Run) -> None:
    assert "`go-services init`" in run("config", "set", "worker.batch", "1", code=3).stderr


def test_reference_to_a_variable_may_be_set_before_the_variable_is(run: Run, folder: Path) -> None:
    run("init")
    run("config", "set", "providers.github.client_secret", "env:NOT_SET_ON_THIS_MACHINE")
    assert read(folder)["providers"]["github"] == {"client_secret": "env:NOT_SET_ON_THIS_MACHINE"}


def test_get_of_a_table_prints_what_is_below_and_of_nothing_fails(run: Run) -> None:
    run("init")
    lines = run("config", "get", "secrets").stdout.splitlines()
    assert "secrets.appkey.key = file:go-services.key" in lines
    assert "secrets.backend = appkey" in lines
    assert run("config", "get", "providers.github.client_id", code=1).stdout == ""


def test_validate_prints_every_problem_with_exit_code_3(run: Run, folder: Path) -> None:
    (folder / "go-services.toml").write_text("[store]\nurll = 1\n[worker]\nbatch = 'x'\n")
    result = run("config", "validate", code=3)
    assert "store.urll" in result.stdout
    assert "worker.batch" in result.stdout
    report = json.loads(run("config", "validate", "--json", code=3).stdout)
    assert report["ok"] is False
    assert len(report["problems"]) >= 2


def test_schema_lists_settings_of_core_and_plugins(run: Run) -> None:
    found = {one["key"]: one for one in json.loads(run("config", "schema", "--json").stdout)["settings"]}
    assert found["store.url"]["default"] == "sqlite:///go-services.db"
    assert found["secrets.appkey.key"]["secret"] is True
    assert found["providers.<id>.client_id"]["required"] is True
    only = run("config", "schema", "worker").stdout
    assert "worker.batch" in only
    assert "store.url" not in only
    assert run("config", "schema", "nothing").stdout == "There is no setting nothing.\n"


def test_configure_asks_and_writes_secrets_as_references(run: Run, folder: Path) -> None:
    run("init")
    result = run("configure", "github", input="\nIv1.abc\nfile\nhunter2\n\n\n")
    assert "hunter2" not in result.stdout + result.stderr
    secret = folder / "secrets" / "providers.github.client_secret"
    assert secret.read_text() == "hunter2\n"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert read(folder)["providers"]["github"] == {
        "client_id": "Iv1.abc",
        "client_secret": "file:secrets/providers.github.client_secret",
    }
    assert "hunter2" not in (folder / "go-services.toml").read_text()
    run("config", "validate")
    assert run("configure", "github", input="\n\n\n\n\n").stdout == "Nothing to change.\n"


def test_configure_asks_for_a_rare_setting_only_where_it_is_set(run: Run, folder: Path) -> None:
    run("init")
    assert "client_certificate" not in run("configure", "github", input="\nIv1.abc\n\n\n\n").stderr
    run("configure", "github", "--set", "client_certificate=env:CLIENT_PEM")
    assert read(folder)["providers"]["github"]["client_certificate"] == "env:CLIENT_PEM"
    assert "client_certificate" in run("configure", "github", input="\n\n\n\n\n\n").stderr


def test_configure_takes_the_name_of_a_variable(run: Run, folder: Path) -> None:
    run("init")
    run("configure", "github", input="\nIv1.abc\nenv\n\n\n\n")
    assert read(folder)["providers"]["github"]["client_secret"] == "env:GITHUB_CLIENT_SECRET"


def test_configure_dry_run_writes_nothing(run: Run, folder: Path) -> None:
    run("init")
    before = (folder / "go-services.toml").read_bytes()
    said = run("configure", "github", "--dry-run", input="\nIv1.abc\nfile\nhunter2\n\n\n").stdout
    assert "Would set providers.github.client_id" in said
    assert "Would write secrets/providers.github.client_secret" in said
    assert (folder / "go-services.toml").read_bytes() == before
    assert not (folder / "secrets").exists()


def test_configure_with_set_asks_nothing_and_refuses_a_secret_in_clear(run: Run, folder: Path) -> None:
    run("init")
    result = run("configure", "github", "--set", "client_secret=hunter2", code=2)
    assert "takes a reference" in result.stderr
    assert "hunter2" not in result.stderr
    assert "providers" not in read(folder)
    run("configure", "github", "--set", "client_id=12345", "--set", "client_secret=env:X")
    assert read(folder)["providers"]["github"] == {"client_id": "12345", "client_secret": "env:X"}
    assert "Did you mean 'client_id'?" in run("configure", "github", "--set", "clientid=x", code=2).stderr


def test_configure_works_for_stores_and_backends(run: Run, folder: Path) -> None:
    run("init")
    run("configure", "store-sqlite", "--set", "url=sqlite:///other.db")
    assert read(folder)["store"]["url"] == "sqlite:///other.db"
    run("configure", "secrets-appkey", "--set", "key=env:APP_KEY")
    assert read(folder)["secrets"]["appkey"] == {"key": "env:APP_KEY"}
    assert "Did you mean 'store-sqlite'?" in run("configure", "store-sqlit", code=4).stderr


def test_configure_works_for_another_instance_of_a_provider(run: Run, folder: Path) -> None:
    run("init")
    run("config", "set", "providers.ghe.use", "github")
    run("configure", "ghe", "--set", "base_url=https://ghe.example/api/v3", "--set", "client_id=x")
    assert read(folder)["providers"]["ghe"] == {
        "use": "github",
        "base_url": "https://ghe.example/api/v3",
        "client_id": "x",
    }


def test_configure_of_a_plugin_without_settings_says_so(run: Run, install: Install) -> None:
    run("init")
    install("plain", "GS_CONTRACT = 1\n")
    assert "plain" in run("configure", "plain", code=4).stderr


def test_providers_are_listed_and_shown_with_instances_of_the_configuration(run: Run, folder: Path) -> None:
    (folder / "go-services.toml").write_text(
        '[providers.ghe]\nuse = "github"\nbase_url = "https://ghe.example/api/v3"\n'
    )
    found = {one["id"]: one for one in json.loads(run("providers", "list", "--json").stdout)["providers"]}
    assert found["github"]["configured"] is False
    assert (found["ghe"]["configured"], found["ghe"]["plugin"]) == (True, "github")
    shown = json.loads(run("providers", "show", "ghe", "--json").stdout)
    assert shown["base_url"] == "https://ghe.example/api/v3"
    assert "repos.list" in [operation["id"] for operation in shown["operations"]]
    assert "/user/repos" in run("providers", "show", "github").stdout
    assert "Did you mean 'github'?" in run("providers", "show", "githb", code=1).stderr


def test_store_is_migrated_once_and_says_what_it_holds(run: Run, folder: Path) -> None:
    run("init")
    assert run("store", "status", code=1).stdout.endswith("run `go-services store migrate`.\n")
    planned = json.loads(run("store", "migrate", "--dry-run", "--json").stdout)
    assert planned["dry_run"] is True
    assert planned["migrations"]
    assert json.loads(run("store", "status", "--json", code=1).stdout)["pending"] == planned["migrations"]
    assert run("store", "migrate").stdout.startswith("Applied 1 ")
    assert run("store", "migrate").stdout == "The database is up to date.\n"
    status = json.loads(run("store", "status", "--json").stdout)
    assert status["pending"] == []
    assert status["tables"]["service_connections"] == 0
