from __future__ import annotations

from pathlib import Path

import attrs
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core import (
    ApiSpec,
    OAuth2Code,
    ObserverSpec,
    PersonalToken,
    ProviderSpec,
    SecretBackendSpec,
    SecretStr,
    StoreSpec,
    TransportSpec,
    hookimpl,
    setting,
    settings,
)
from go_services_core.config import Config, check, describe
from go_services_core.config.roots import ROOTS
from go_services_core.plugins import PluginManager
from go_services_core.refs import Ref
from go_services_core.specs import FACETS


@settings
class FileStore:
    url: str = setting(help="Where the database is")
    wait: float = setting(default=5.0, help="Seconds to wait for the lock")


@settings
class Vault:
    address: str = setting(help="Where the vault is")
    token: SecretStr | None = setting(default=None, help="Token", secret=True)


@settings
class Http:
    limit: int = setting(default=100, help="Connections at once")


class Complete:
    @hookimpl
    def gs_providers(self):
        oauth = OAuth2Code(authorize_url="https://hub.example/auth", token_url="https://hub.example/token")
        api = ApiSpec(base_url="https://hub.example")
        return [ProviderSpec(id="hub", name="Hub", auth=(PersonalToken(), oauth), api=api)]

    @hookimpl
    def gs_stores(self):
        return [
            StoreSpec(id="sqlite", url_schemes="sqlite", factory=Ref("m:N"), facets=FACETS, settings=FileStore),
            StoreSpec(id="other", url_schemes="other", factory=Ref("m:N"), facets=FACETS),
        ]

    @hookimpl
    def gs_secret_backends(self):
        return [
            SecretBackendSpec(id="appkey", factory=Ref("m:N"), sealer=Ref("m:N")),
            SecretBackendSpec(id="vault", factory=Ref("m:N"), sealer=Ref("m:N"), settings=Vault),
        ]

    @hookimpl
    def gs_transports(self):
        return [TransportSpec(kind="rest", factory=Ref("m:N"), settings=Http)]

    @hookimpl
    def gs_observers(self):
        return [ObserverSpec(id="log", factory=Ref("m:N"))]


@pytest.fixture
def catalog():
    return PluginManager.of({"all": Complete()}).catalog()


def checked(catalog, tmp_path: Path, text: str, **environ: str) -> list[str]:
    file = tmp_path / "c.toml"
    file.write_text(text)
    return check(Config.load(file, environ=environ), catalog)


def test_an_empty_configuration_has_no_problem(catalog, tmp_path):
    assert checked(catalog, tmp_path, "") == []


def test_a_full_configuration_has_no_problem(catalog, tmp_path):
    text = """
[runtime]
callback_url = "https://a.example/cb"
[plugins]
disabled = ["x"]
prefer = { hub = "all" }
[store]
url = "sqlite:///a.db"
wait = 1
[secrets]
backend = "vault"
[secrets.vault]
address = "https://v.example"
token = "env:VAULT"
[providers.hub]
auth = "pat"
[providers.second]
use = "hub"
[egress.allow]
second = ["127.0.0.1:8080", "[::1]:80"]
[worker]
batch = 10
[transport]
limit = 5
[observers.log]
"""
    assert checked(catalog, tmp_path, text, VAULT="t") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[provider.hub]\n", "provider (c.toml line 1): there is no such table; did you mean [providers]?"),
        ("worker = 3\n", "worker (c.toml line 1): must be a table."),
        ("[store]\nurl = 'mysql://u:hunter2@h/d'\nwait = 1\n", "store.url (c.toml line 2): No store handles"),
        ("[store]\nwiat = 1\n", "did you mean 'wait'?"),
        ("[store]\nurl = 'other://x'\nwait = 1\n", "store.wait"),
        ("[secrets]\nbackend = 'vualt'\n", "Did you mean 'vault'?"),
        ("[secrets]\nbackend = 'vault'\n", "secrets.vault.address is not set"),
        ("[secrets.vault]\ntoken = 'hunter2'\naddress = 'x'\n", "secrets.vault.token (c.toml line 2)"),
        ("[secrets.vault]\ntoken = 'env:NONE'\naddress = 'x'\n", "the environment variable NONE is not set"),
        ("[secrets.vaul]\n", "Did you mean [secrets.vault]?"),
        ("[secrets.appkey]\nx = 1\n", "secrets.appkey.x"),
        ("[secrets]\nbakend = 'vault'\n", "did you mean 'backend'?"),
        ("[transport]\nlimit = 'x'\n", "transport.limit (c.toml line 2)"),
        ("[observers.lgo]\n", "Did you mean [observers.log]?"),
        ("[observers]\nlog = 1\n", "observers.log"),
        ("[egress]\nallow = { hbu = ['a:1'] }\n", "Did you mean 'hub'?"),
        ("[egress.allow]\nhub = ['127.0.0.1']\n", "does not read 'host:port'"),
        ("[plugins.prefer]\nhub = 'nobody'\n", "the plugin 'all' does"),
        ("[runtime]\nallow_plaintext_secrets = 'x'\n", "runtime.allow_plaintext_secrets (c.toml line 2)"),
        ("[providers.hub]\nauth = 'basic'\n", "providers.hub.auth"),
        ("[worker]\nbatch = 1.5\n", "must be a whole number, not a number"),
    ],
)
def test_each_problem_is_reported_once_with_key_and_origin(catalog, tmp_path, text, said):
    (problem,) = checked(catalog, tmp_path, text)
    assert said in problem
    assert "hunter2" not in problem


def test_all_problems_of_all_tables_are_in_one_report(catalog, tmp_path):
    text = "[worker]\nx = 1\n[runtime]\nx = 1\n[store]\nx = 1\n[transport]\nx = 1\n[providers.hub]\nx = 1\n[odd]\n"
    found = checked(catalog, tmp_path, text)
    assert {problem.split(" ")[0] for problem in found} == {
        "worker.x",
        "runtime.x",
        "store.x",
        "transport.x",
        "providers.hub.x",
        "odd",
    }


names = st.sampled_from(
    [
        "url",
        "backend",
        "vault",
        "token",
        "address",
        "hub",
        "x",
        "use",
        "auth",
        "kind",
        "scheme",
        "api",
        "base_url",
        "operations",
        "capabilities",
        "params",
        "id",
        "webhook",
        "webhook_secrets",
        "grants",
        "allow",
        "prefer",
        "log",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["pat", "hub", "hmac", "oauth2_auth_code", ""])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@hypothesis.settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*ROOTS, "other"]), st.dictionaries(names, values, max_size=5), max_size=4))
def test_no_configuration_makes_the_report_fail(tree):
    catalog = PluginManager.of({"all": Complete()}).catalog()
    config = Config.load(environ={}, arguments=tree)
    found = check(config, catalog)
    assert all(isinstance(problem, str) for problem in found)
    assert config.values(catalog)


def test_what_is_not_installed_is_said_with_what_to_install(tmp_path):
    found = checked(PluginManager.of({}).catalog(), tmp_path, "")
    assert any("go-services-store-sqlite" in problem for problem in found)
    assert any("go-services-secrets-appkey" in problem for problem in found)


def test_every_setting_is_described(catalog):
    found = {setting.key: setting for setting in describe(catalog)}
    assert found["store.wait"].default == 5.0
    assert found["store.wait"].type == "number"
    assert found["secrets.vault.address"].default is attrs.NOTHING
    assert found["secrets.vault.token"].secret
    assert found["secrets.vault.token"].type == "secret"
    assert found["providers.<id>.client_secret"].example == "env:GITHUB_CLIENT_SECRET"
    assert found["providers.<id>.webhook_secrets"].type == "list of secret"
    assert found["egress.allow"].type == "table of list of text"
    assert found["transport.limit"].help == "Connections at once"
    assert all(setting.help for setting in found.values())
    assert list(found) == sorted(found)


def test_every_setting_of_the_core_is_in_the_reference():
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
    missing = []
    for described in describe(PluginManager.of({}).catalog()):
        if f"`{described.key}`" not in reference or described.help not in reference:
            missing.append(described.key)
    assert missing == []


def test_the_examples_of_the_reference_have_no_problem(catalog, tmp_path):
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
    examples = [part.partition("```")[0] for part in reference.split("```toml\n")[1:]]
    assert len(examples) == 2
    text = "\n".join(examples).replace("[providers.github]", "[providers.hub]").replace('"github"', '"hub"')
    text = text.replace("file:secrets/ghe", "env:GHE")
    assert checked(catalog, tmp_path, text, GITHUB_CLIENT_SECRET="a", GHE="b", ACME_CLIENT_SECRET="c") == []


def test_the_package_gives_functions_whatever_was_imported_before():
    """A submodule of the same name would take the function's place in the package once it is imported."""
    import go_services_core.config as package

    folder = Path(package.__file__).parent
    assert not {path.stem for path in folder.glob("*.py")} & set(package.__all__)
