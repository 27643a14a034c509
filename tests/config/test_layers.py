from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from go_services_core import SecretStr, setting, settings
from go_services_core.config import Config, resolver
from go_services_core.errors import ConfigError, PluginBroken
from go_services_core.plugins import PluginManager

FILE = """
[runtime]
cache_seconds = 5
callback_url = "https://file.example"

[store]
url = "sqlite:///data/app.db"
pool = 3

[providers.my-ghe]
client_id = "from-file"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "conf" / "go-services.toml"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


@settings
class Pool:
    pool: int = setting(default=1, help="Connections that are kept")


@settings
class Everything:
    text: str = setting(default="t", help="")
    count: int = setting(default=1, help="")
    ratio: float = setting(default=1.0, help="")
    on: bool = setting(default=False, help="")
    where: Path | None = setting(default=None, help="")
    mode: Literal["fast", "slow"] = setting(default="fast", help="")
    names: tuple[str, ...] = setting(default=(), help="")
    ports: tuple[int, ...] = setting(default=(), help="")
    table: dict[str, int] = setting(default={}, help="")
    either: int | str = setting(default=0, help="")


def no_secrets(reference: str) -> SecretStr:
    raise AssertionError(f"{reference} is no secret")


def bind(config: Config, key: str, *classes):
    return config.bind(key, *classes, resolve=no_secrets)


def test_each_layer_beats_the_one_before_and_is_named_as_origin(file):
    def load(environ=None, arguments=None):
        config = Config.load(file, environ=environ or {}, arguments=arguments)
        return config.get("runtime.cache_seconds"), config.origin("runtime.cache_seconds")

    variable = {"GO_SERVICES__RUNTIME__CACHE_SECONDS": "7.5"}
    assert load() == (5.0, "go-services.toml line 3")
    assert load(variable) == (7.5, "environment variable GO_SERVICES__RUNTIME__CACHE_SECONDS")
    assert load(variable, {"runtime.cache_seconds": 9}) == (9.0, "argument")
    bare = Config.load(file, environ={})
    assert (bare.get("runtime.attempt_lifetime"), bare.origin("runtime.attempt_lifetime")) == (600.0, "default")
    assert bare.get("runtime.default_timeout", 3) == 3


def test_the_file_is_found_by_argument_then_variable_then_working_directory(file, tmp_path, monkeypatch):
    other = tmp_path / "other.toml"
    other.write_text("[runtime]\ncache_seconds = 1\n")
    environ = {"GO_SERVICES_CONFIG": str(other)}
    assert Config.load(file, environ=environ).path == file
    assert Config.load(environ=environ).path == other
    monkeypatch.chdir(file.parent)
    assert Config.load(environ={}).path == file
    monkeypatch.chdir(tmp_path)
    assert Config.load(environ={}).path is None
    assert Config.load(environ={}).folder == tmp_path


def test_a_named_file_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="go-services init"):
        Config.load(tmp_path / "absent.toml", environ={})
    with pytest.raises(ConfigError, match="which GO_SERVICES_CONFIG names"):
        Config.load(environ={"GO_SERVICES_CONFIG": str(tmp_path / "absent.toml")})


@pytest.mark.parametrize("content", [b"[runtime\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        Config.load(path, environ={})


def test_variables_are_read_in_any_case_and_find_keys_with_hyphens(file):
    environ = {"go_services__Providers__MY_GHE__Client_Id": "from-variable", "GO_SERVICES__PROVIDERS__NEW_ONE__X": "y"}
    config = Config.load(file, environ=environ)
    assert config.get("providers.my-ghe.client_id") == "from-variable"
    assert config.table("providers")["new_one"] == {"x": "y"}


@pytest.mark.parametrize("name", ["GO_SERVICES__RUNTIME", "GO_SERVICES__", "GO_SERVICES____X", "GO_SERVICES__A__"])
def test_a_variable_that_names_no_setting_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        Config.load(environ={name: "1"})


def test_values_of_variables_are_read_by_the_type_of_their_field():
    environ = {
        f"GO_SERVICES__STORE__{name}": value
        for name, value in {
            "TEXT": "12",
            "COUNT": "12",
            "RATIO": "0.5",
            "ON": "Yes",
            "WHERE": "keys/k1",
            "MODE": "SLOW",
            "NAMES": "a, b,,c",
            "PORTS": "1,2",
            "TABLE__X": "4",
            "EITHER": "x",
            "URL": "sqlite://",
        }.items()
    }
    config = Config.load(environ=environ)

    @settings
    class Url:
        url: str = setting(help="")

    made, _ = bind(config, "store", Everything, Url)
    assert made == Everything(
        text="12",
        count=12,
        ratio=0.5,
        on=True,
        where=config.folder / "keys/k1",
        mode="slow",
        names=("a", "b", "c"),
        ports=(1, 2),
        table={"x": 4},
        either="x",
    )


def test_all_problems_are_in_one_error_each_with_key_origin_and_remedy(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(
        "[worker]\ntext = 1\ncount = true\nratio = 'x'\non = 1\nwhere = 2\nmode = 'fats'\n"
        "names = 'a'\nports = ['x']\ntable = 3\neither = []\nnmaes = []\n[wroker]\nx = 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        bind(Config.load(file, environ={"GO_SERVICES__WORKER__COUNT": "many"}), "worker", Everything)
    problems = {problem.split(" ")[0]: problem for problem in caught.value.problems}
    assert set(problems) == {
        *(f"worker.{name}" for name in ("text", "count", "ratio", "on", "where", "mode", "names", "table", "either")),
        "worker.ports[0]",
        "worker.nmaes",
        "wroker",
    }
    assert problems["worker.text"] == (
        "worker.text (c.toml line 2): must be text; write it in quotes, it is a whole number."
    )
    assert "(environment variable GO_SERVICES__WORKER__COUNT): must be a whole number" in problems["worker.count"]
    assert "Did you mean 'fast'?" in problems["worker.mode"]
    assert "did you mean 'names'?" in problems["worker.nmaes"]
    assert "did you mean [worker]?" in problems["wroker"]
    assert "(c.toml line 9)" in problems["worker.ports[0]"]
    assert str(caught.value).startswith("The configuration has 12 problems:\n  - ")


def test_a_required_setting_that_is_missing_is_reported_with_its_help_and_its_places():
    @settings
    class Needs:
        address: str = setting(help="Where the vault is")

    with pytest.raises(ConfigError) as caught:
        bind(Config.load(environ={}), "secrets.my-vault", Needs)
    (problem,) = caught.value.problems
    assert "secrets.my-vault.address is not set (Where the vault is)" in problem
    assert "[secrets.my-vault]" in problem
    assert "GO_SERVICES__SECRETS__MY_VAULT__ADDRESS" in problem


def test_classes_share_a_table(file):
    @settings
    class Url:
        url: str = setting(help="")

    url, pool, nothing = bind(Config.load(file, environ={}), "store", Url, Pool, None)
    assert (url.url, pool.pool, nothing) == (f"sqlite:///{file.parent}/data/app.db", 3, None)
    with pytest.raises(ConfigError, match=r"store\.pool .*line 8.*no such setting"):
        bind(Config.load(file, environ={}), "store", Url)


def test_fields_whose_types_cannot_be_found_are_the_plugins_fault():
    @settings
    class OnlyForTypeCheckers:
        clock: Clock = setting(default=None, help="")  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(PluginBroken, match=r"OnlyForTypeCheckers cannot be read: .*Clock"):
        bind(Config.load(environ={}), "worker", OnlyForTypeCheckers)


def test_a_validators_complaint_becomes_a_problem():
    @settings
    class Positive:
        size: int = setting(default=1, help="")

        def __attrs_post_init__(self):
            if self.size < 1:
                raise ValueError("size must be positive")

    with pytest.raises(
        ConfigError, match=r"^The configuration has 1 problem:\n  - worker .*: size must be positive\.$"
    ):
        bind(Config.load(environ={}, arguments={"worker.size": 0}), "worker", Positive)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///app.db", "sqlite:///{folder}/app.db"),
        ("sqlite:///../app.db", "sqlite:///{parent}/app.db"),
        ("sqlite:////var/app.db", "sqlite:////var/app.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql:///app", "postgresql:///app"),
        ("postgresql://host/app", "postgresql://host/app"),
        (None, "sqlite:///{folder}/go-services.db"),
    ],
)
def test_sqlite_urls_are_relative_to_the_configuration_file(file, monkeypatch, tmp_path, url, expected):
    monkeypatch.chdir(tmp_path)
    file.write_text("" if url is None else f"[store]\nurl = '{url}'\n")
    expected = expected.format(folder=file.parent, parent=file.parent.parent)
    assert Config.load(file, environ={}).get("store.url") == expected


def test_tables_are_copies(file):
    config = Config.load(file, environ={})
    config.table("providers")["my-ghe"]["client_id"] = "changed"
    assert config.get("providers.my-ghe.client_id") == "from-file"
    assert config.table("providers.absent") == {}
    with pytest.raises(ConfigError, match="must be a table"):
        config.table("runtime.cache_seconds")


def test_an_argument_may_be_a_whole_table():
    config = Config.load(environ={}, arguments={"providers.acme": {"client_id": "x", "implies": {"a.b": ["c"]}}})
    assert config.get('providers.acme.implies."a.b"') == ["c"]
    assert config.origin("providers.acme.client_id") == "argument"


def test_a_value_where_a_table_belongs_is_an_error(file):
    with pytest.raises(ConfigError, match=r"runtime\.cache_seconds .*is a value"):
        Config.load(file, environ={"GO_SERVICES__RUNTIME__CACHE_SECONDS__X": "1"})


def test_values_are_listed_with_origin_and_secrets_never_show(file):
    file.write_text(
        FILE
        + """client_secret = "hunter2"
webhook_secrets = ["hunter2", "env:HOOK"]
[providers.other]
client_secret = "env:OTHER"
api_key = "hunter2"
token_url = "https://t.example"
[transport]
proxy = "http://user:hunt/er2@hunter2@proxy:8080"
[transport.proxy_credentials]
"proxy.corp:3128" = "user:hunter2"
"other.corp:3128" = "env:PROXY"
[[secrets.appkey.go_keys]]
id = "app-key"
material = "hunter2"
"""
    )
    config = Config.load(
        file,
        environ={"GO_SERVICES__PROVIDERS__X__PASSWORD": "hunter2"},
        arguments={"providers.y.odd": SecretStr("hunter2")},
    )
    values = {value.key: value for value in config.values()}
    assert "hunter2" not in repr(values)
    assert values["providers.my-ghe.webhook_secrets"].value == ["••••", "env:HOOK"]
    assert values["providers.other.client_secret"].value == "env:OTHER"
    assert values["providers.other.token_url"].value == "https://t.example"
    assert values["transport.proxy"].value == "http://user:••••@proxy:8080"
    assert values['transport.proxy_credentials."proxy.corp:3128"'].value == "••••"
    assert values['transport.proxy_credentials."other.corp:3128"'].value == "env:PROXY"
    assert values["secrets.appkey.go_keys"].value == [{"id": "app-key", "material": "••••"}]
    assert values["providers.my-ghe.client_id"].origin == "go-services.toml line 11"
    assert (values["worker.batch"].value, values["worker.batch"].origin) == (50, "default")
    assert [value.key for value in config.values()] == sorted(values)


def test_reading_a_setting_of_the_wrong_type_is_an_error():
    with pytest.raises(ConfigError, match=r"plugins\.strict .*true or false"):
        Config.load(environ={"GO_SERVICES__PLUGINS__STRICT": "perhaps"}).get("plugins.strict")


# --- secrets -------------------------------------------------------------------------------------------------------


@settings
class Client:
    secret: SecretStr | None = setting(default=None, help="", secret=True)
    secrets: tuple[SecretStr, ...] = setting(default=(), help="", secret=True)
    marked: str | None = setting(default=None, help="", secret=True)


def client(text: str, folder: Path, *, environ=None, arguments=None) -> Client:
    path = folder / "c.toml"
    path.write_text(text)
    config = Config.load(path, environ=environ or {}, arguments=arguments)
    (made,) = config.bind("providers.x", Client, resolve=resolver(config, PluginManager.of({}).catalog()))
    return made


def test_references_to_variables_and_files_are_resolved(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "old").write_bytes(b" from file \r\n")
    made = client(
        "[providers.x]\nsecret = 'env:NEW'\nsecrets = ['file:keys/old', 'env:NEW']\nmarked = 'env:NEW'\n",
        tmp_path,
        environ={"NEW": "from variable"},
    )
    assert made.secret is not None
    assert made.secret.reveal() == "from variable"
    assert [secret.reveal() for secret in made.secrets] == [" from file ", "from variable"]
    assert isinstance(made.marked, SecretStr)


def test_a_variable_may_hold_a_reference(tmp_path):
    environ = {"GO_SERVICES__PROVIDERS__X__SECRETS": "env:A,env:B", "A": "a", "B": "b"}
    assert [secret.reveal() for secret in client("", tmp_path, environ=environ).secrets] == ["a", "b"]


@pytest.mark.parametrize("value", ["'hunter2'", "'ftp:hunter2'", "''"])
def test_secrets_in_plain_text_are_refused_and_never_repeated(tmp_path, value):
    with pytest.raises(ConfigError) as caught:
        client(f"[providers.x]\nsecret = {value}\n", tmp_path)
    assert "providers.x.secret (c.toml line 2): must be a reference to a secret (env:…, file:…)" in str(caught.value)
    assert "hunter2" not in str(caught.value) + repr(caught.value.as_dict())


def test_secrets_in_plain_text_in_a_variable_are_refused_too(tmp_path):
    with pytest.raises(ConfigError, match="GO_SERVICES__PROVIDERS__X__SECRET"):
        client("", tmp_path, environ={"GO_SERVICES__PROVIDERS__X__SECRET": "hunter2"})


def test_plain_text_is_taken_where_it_is_allowed_or_handed_in(tmp_path):
    text = "[runtime]\nallow_plaintext_secrets = true\n[providers.x]\nsecret = 'hunter2'\n"
    assert client(text, tmp_path).secret == SecretStr("hunter2")
    handed = {"providers.x.secret": SecretStr("s"), "providers.x.secrets": (SecretStr("t"),)}
    made = client("", tmp_path, arguments=handed)
    assert (made.secret, made.secrets) == (SecretStr("s"), (SecretStr("t"),))


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:ABSENT", "the environment variable ABSENT is not set"),
        ("env:EMPTY", "the environment variable EMPTY is empty"),
        ("file:absent", "absent cannot be read: No such file"),
        ("file:.", "cannot be read"),
        ("file:empty", "empty is empty"),
        ("file:binary", "not text"),
        ("file:huge", "one MiB"),
    ],
)
def test_references_that_lead_nowhere_say_what_they_miss(tmp_path, reference, said):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\x00hunter2")
    (tmp_path / "huge").write_bytes(b"x" * (2 << 20))
    with pytest.raises(ConfigError) as caught:
        client(f"[providers.x]\nsecret = '{reference}'\n", tmp_path, environ={"EMPTY": ""})
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_secret_for_a_setting_that_is_none_is_refused():
    config = Config.load(environ={}, arguments={"worker.text": SecretStr("hunter2")})
    with pytest.raises(ConfigError, match="would be printed"):
        bind(config, "worker", Everything)
