from __future__ import annotations

from textwrap import dedent

import pytest
from attrs import frozen

from go_services_core import (
    ApiKey,
    ApiSpec,
    AuthStrategySpec,
    Basic,
    Capability,
    HmacWebhook,
    Identity,
    OAuth2Code,
    Operation,
    PersonalToken,
    ProviderSpec,
    SecretStr,
    hookimpl,
    setting,
    settings,
)
from go_services_core.auth_specs import AwsSigV4
from go_services_core.config import Config, resolver
from go_services_core.errors import BadInput, CapabilityUnsupported, ConfigError, OperationNotFound
from go_services_core.plugins import PluginManager
from go_services_core.providers import build_instances
from go_services_core.refs import Ref


@settings
class HubSettings:
    host: str = setting(default="hub.example", help="Host of the server")

    @property
    def api_url(self) -> str:
        return f"https://api.{self.host}" if self.host == "hub.example" else f"https://{self.host}/api/v3"


@settings
class TenantSettings:
    tenant: str = setting(help="Tenant of the organisation")


HUB = ProviderSpec(
    id="hub",
    name="Hub",
    auth=(
        OAuth2Code(
            authorize_url="https://{host}/authorize",
            token_url="https://{host}/token",
            issuer="https://{host}",
            default_grants=("read",),
        ),
        PersonalToken(),
    ),
    api=ApiSpec(base_url="{api_url}", hosts=("uploads.{host}", "*.files.example:8443")),
    capabilities=(Capability("issues.read"), Capability("issues.write")),
    operations=(Operation("issues.list", "GET", "/repos/{owner}/issues"), Operation("issues.get", "GET", "/x")),
    identity=Identity(url="{api_url}/user"),
    settings=HubSettings,
)
TENANT = ProviderSpec(
    id="tenant",
    name="Tenant",
    auth=PersonalToken(),
    api=ApiSpec(base_url="https://{tenant}.example"),
    operations=Operation("o", "GET", "/"),
    settings=TenantSettings,
)


class Providers:
    @hookimpl
    def gs_providers(self):
        return [HUB, TENANT]


def instances(text: str = "", *, environ=None, plugin: object = None, arguments=None):
    import tomllib

    config = Config.load(environ=environ or {}, arguments={**tomllib.loads(dedent(text)), **(arguments or {})})
    catalog = PluginManager.of({"mine": plugin or Providers()}).catalog()
    return build_instances(config, catalog, resolver(config, catalog))


def problems(text: str, **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        instances(text, **options)
    return list(caught.value.problems)


def test_every_provider_has_an_instance_under_its_own_id_with_urls_filled():
    hub = instances()["hub"]
    assert hub.settings == HubSettings()
    assert hub.auth().authorize_url == "https://hub.example/authorize"
    assert hub.auth().issuer == "https://hub.example"
    assert hub.spec.api.base_url == "https://api.hub.example"
    assert hub.spec.identity.url == "https://api.hub.example/user"
    assert hub.operation("issues.list").path == "/repos/{owner}/issues"
    assert hub.hosts == ("api.hub.example", "uploads.hub.example", "*.files.example:8443")


def test_a_second_instance_has_its_own_settings_and_secrets():
    made = instances(
        """
        [providers.hub]
        client_id = "one"
        [providers.enterprise]
        use = "hub"
        host = "git.corp"
        client_id = "two"
        client_secret = "env:TWO"
        redirect_uri = "https://app.example/cb"
        grants = ["all"]
        webhook_secrets = ["env:NEW", "env:OLD"]
        auth = "pat"
        """,
        environ={"TWO": "s2", "NEW": "n", "OLD": "o"},
    )
    hub, enterprise = made["hub"], made["enterprise"]
    assert (hub.spec.id, enterprise.spec.id, enterprise.plugin_provider) == ("hub", "enterprise", "hub")
    assert hub.auth_settings().client_id == "one"
    settings = enterprise.auth_settings("oauth2_auth_code")
    assert (settings.client_id, settings.client_secret) == ("two", SecretStr("s2"))
    assert enterprise.auth().kind == "pat"
    assert enterprise.auth("oauth2_auth_code").token_url == "https://git.corp/token"
    assert enterprise.auth("oauth2_auth_code").default_grants == ("all",)
    assert enterprise.spec.api.base_url == "https://git.corp/api/v3"
    assert enterprise.redirect_uri == "https://app.example/cb"
    assert [secret.reveal() for secret in enterprise.webhook_secrets] == ["n", "o"]
    assert hub.auth().default_grants == ("read",)
    assert "s2" not in repr(enterprise)


def test_the_instances_cannot_be_changed():
    with pytest.raises(TypeError):
        instances()["x"] = None


def test_a_missing_client_id_matters_only_when_it_is_used():
    hub = instances()["hub"]
    assert hub.auth_settings("pat") is None
    with pytest.raises(ConfigError) as caught:
        hub.auth_settings()
    assert "providers.hub.client_id is not set" in str(caught.value)
    assert "GO_SERVICES__PROVIDERS__HUB__CLIENT_ID" in str(caught.value)


def test_a_setting_of_the_provider_itself_is_missed_when_it_is_used_or_its_table_is_there():
    tenant = instances()["tenant"]
    for use in (tenant.auth, lambda: tenant.operation("o"), tenant.auth_settings):
        with pytest.raises(ConfigError, match=r"providers\.tenant\.tenant is not set \(Tenant of the organisation\)"):
            use()
    assert not tenant.allows("https://{tenant}.example/")
    assert not tenant.allows("https://x.example/")
    assert problems("[providers.tenant]\nauth = 'pat'\n")[0].startswith("providers.tenant.tenant is not set")
    made = instances("[providers.tenant]\ntenant = 'acme'\n")["tenant"]
    assert made.spec.api.base_url == "https://acme.example"


def test_unknown_names_are_reported_with_what_is_near_or_known():
    hub = instances()["hub"]
    with pytest.raises(BadInput, match="It has oauth2_auth_code, pat"):
        hub.auth("basic")
    with pytest.raises(BadInput):
        hub.auth_settings("basic")
    with pytest.raises(OperationNotFound, match=r"Did you mean 'issues\.list'"):
        hub.operation("issue.list")
    with pytest.raises(CapabilityUnsupported, match=r"Did you mean 'issues\.write'"):
        hub.capability("issues.writes")
    with pytest.raises(CapabilityUnsupported, match=r"It has issues\.read, issues\.write"):
        hub.capability("zzz")
    assert hub.capability("issues.read").name == "issues.read"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.hub.example/repos?x=1",
        "https://API.HUB.EXAMPLE",
        "https://api.hub.example:443/",
        "https://uploads.hub.example/a",
        "https://a.b.files.example:8443/",
    ],
)
def test_a_credential_may_go_to_the_providers_hosts(url):
    assert instances()["hub"].allows(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.hub.example/",
        "https://api.hub.example:8443/",
        "https://hub.example/",
        "https://api.hub.example.evil.example/",
        "https://evilapi.hub.example/",
        "https://x@api.hub.example/",
        "https://evil.example\\@api.hub.example/",
        "https://evil.example/\\api.hub.example/",
        "https://api.hub.example./",
        "https://api.hub.example:port/",
        "https://api.hub.example:99999/",
        "https://api.hub.example\t.evil.example/",
        " https://api.hub.example/",
        "https://files.example:8443/",
        "https://a.files.example/",
        "https://xfiles.example:8443/",
        "https:///api.hub.example/",
        "//api.hub.example/",
        "ftp://api.hub.example/",
        "api.hub.example",
        "https://[::1/",
        "",
    ],
)
def test_a_credential_goes_nowhere_else(url):
    assert not instances()["hub"].allows(url)


def test_plain_http_is_allowed_where_the_base_url_is_plain_http():
    hub = instances("[providers.hub]\nbase_url = 'http://127.0.0.1:8080/'\n")["hub"]
    assert hub.spec.api.base_url == "http://127.0.0.1:8080"
    assert hub.hosts[0] == "127.0.0.1:8080"
    assert hub.allows("http://127.0.0.1:8080/x")
    assert not hub.allows("http://127.0.0.1/x")
    six = instances("[providers.hub]\nbase_url = 'http://[::1]:8080'\n")["hub"]
    assert six.allows("http://[::1]:8080/x")
    assert not six.allows("http://[::2]:8080/x")


PROBLEMS = {
    "unknown provider": ("[providers.hubb]\n", "Did you mean 'hub'?"),
    "unknown use": ("[providers.x]\nuse = 'hubb'\n", "providers.x.use"),
    "use of a provider's own id": ("[providers.hub]\nuse = 'tenant'\n", "give the instance of 'tenant' another id"),
    "unknown key": ("[providers.hub]\nclient_idd = 'x'\n", "did you mean 'client_id'?"),
    "unknown kind": ("[providers.hub]\nauth = 'basic'\n", "it has oauth2_auth_code, pat"),
    "wrong type": ("[providers.hub]\nclient_id = 12\n", "must be text"),
    "bad base URL": ("[providers.hub]\nbase_url = 'hub.example'\n", "must read https://host"),
    "base URL with credentials": (
        "[providers.hub]\nbase_url = 'https://a:hunter2@hub.example'\n",
        "must read https://host",
    ),
    "bad id": ("[providers.Hub]\nuse = 'hub'\n", "lower-case"),
    "plain secret": ("[providers.hub]\nclient_secret = 'hunter2'\n", "must be a reference"),
    "not a table": ("providers = {hub = 3}\n", "must be a table"),
    "declares what a plugin brings": ("[providers.hub]\nauth = {kind = 'pat'}\n", "brings this provider"),
    "empty placeholder": ("[providers.tenant]\ntenant = ''\n", "providers.tenant.tenant"),
}


@pytest.mark.parametrize(("text", "said"), PROBLEMS.values(), ids=PROBLEMS)
def test_each_problem_of_a_table_is_named(text, said):
    (problem,) = problems(text)
    assert said in problem
    assert problem.startswith("providers.")
    assert "hunter2" not in problem


def test_all_problems_of_all_providers_come_at_once():
    text = "".join(text for text, _ in PROBLEMS.values() if "[providers.hub]" not in text and "hub = 3" not in text)
    assert len(problems(text + "[providers.hub]\nclient_id = 1\nbogus = 2\n")) == 6


def test_a_field_of_the_providers_own_beats_the_common_one():
    @settings
    class Own:
        base_url: str = setting(default="https://own.example/", help="Where the server is")

    class Plugin:
        @hookimpl
        def gs_providers(self):
            api = ApiSpec(base_url="{base_url}api")
            return [ProviderSpec(id="own", name="Own", auth=PersonalToken(), api=api, settings=Own)]

    own = instances("[providers.own]\nbase_url = 'https://mine.example/x/'\n", plugin=Plugin())["own"]
    assert own.spec.api.base_url == "https://mine.example/x/api"


def test_region_of_signed_requests_is_filled_like_a_url():
    @settings
    class Own:
        region: str = setting(default="eu-west-1", help="Region of the account")

    class Plugin:
        @hookimpl
        def gs_providers(self):
            auth = AwsSigV4(
                service="ses", region="{region}", sts_region="{region}", sts_url="https://sts.{region}.example"
            )
            return [ProviderSpec(id="mail", name="Mail", auth=auth, settings=Own)]

    for text, region in (("", "eu-west-1"), ("[providers.mail]\nregion = 'us-east-1'\n", "us-east-1")):
        auth = instances(text, plugin=Plugin())["mail"].auth()
        assert (auth.region, auth.sts_region, auth.sts_url) == (region, region, f"https://sts.{region}.example")
    assert "providers.mail.region" in problems("[providers.mail]\nregion = ''\n", plugin=Plugin())[0]


def test_endpoints_for_clients_with_a_certificate_and_audience_are_filled_and_named_as_in_metadata():
    @settings
    class Own:
        host: str = setting(default="bank.example", help="Host of the bank")

    class Plugin:
        @hookimpl
        def gs_providers(self):
            auth = OAuth2Code(
                authorize_url="https://{host}/authorize",
                token_url="https://{host}/token",
                mtls_endpoints={"token_endpoint": "https://mtls.{host}/token"},
                assertion_audience="https://{host}/audience",
            )
            return [ProviderSpec(id="bank", name="Bank", auth=auth, settings=Own)]

    text = "[providers.bank]\nclient_id = 'c'\n"
    for host in ("bank.example", "test.bank.example"):
        auth = instances(f"{text}host = '{host}'\n", plugin=Plugin())["bank"].auth()
        assert auth.mtls_endpoints == {"token_endpoint": f"https://mtls.{host}/token"}
        assert auth.assertion_audience == f"https://{host}/audience"
    with pytest.raises(ValueError):
        OAuth2Code(authorize_url="", token_url="", mtls_endpoints={"token_url": "https://x.example"})


def test_a_provider_whose_placeholder_is_no_setting_is_a_problem():
    class Plugin:
        @hookimpl
        def gs_providers(self):
            return [
                ProviderSpec(id="p", name="P", auth=PersonalToken(), api=ApiSpec(base_url="https://{shop}.example"))
            ]

    assert problems("", plugin=Plugin())[0].startswith("providers.p.shop (default): must be set")


# --- declared in the configuration file ----------------------------------------------------------------------------

DECLARED = """
[providers.acme]
name = "Acme"
client_id = "id"
client_secret = "env:ACME"
auth = { kind = "oauth2_auth_code", authorize_url = "https://a.example/auth", token_url = "https://a.example/token", default_grants = ["r"], rotation = "none" }
api = { base_url = "https://api.a.example/v1", hosts = ["*.a.example"], headers = { Accept = "application/json" } }
identity = { url = "/me", account = "data.id" }
webhook = { scheme = "hmac", signature_header = "X-Sig", id_header = "X-Id", tolerance = 60 }
capabilities = [{ name = "contacts.read", grants = ["r"] }]
scope_types = ["org"]

[providers.acme.implies]
"https://a.example/all" = ["r"]

[[providers.acme.operations]]
id = "contacts.list"
method = "GET"
path = "/contacts"
capability = "contacts.read"
pagination = { style = "link" }
params = [{ name = "q" }, { name = "page", type = "integer" }]
"""


def test_a_table_with_auth_declares_a_provider_without_a_package():
    acme = instances(DECLARED, environ={"ACME": "s"})["acme"]
    spec = acme.spec
    assert (spec.id, spec.name, acme.plugin_provider) == ("acme", "Acme", "acme")
    assert acme.auth() == OAuth2Code(
        authorize_url="https://a.example/auth",
        token_url="https://a.example/token",
        default_grants=("r",),
        rotation="none",
    )
    assert acme.auth_settings().client_secret.reveal() == "s"
    assert spec.api.headers == {"Accept": "application/json"}
    assert spec.identity == Identity(url="/me", account="data.id")
    assert spec.webhook == HmacWebhook(signature_header="X-Sig", id_header="X-Id", tolerance=60.0)
    assert spec.implies == {"https://a.example/all": ("r",)}
    assert spec.scope_types == ("org",)
    operation = acme.operation("contacts.list")
    assert [param.type for param in operation.params] == ["string", "integer"]
    assert acme.allows("https://x.a.example/")


def test_a_declared_provider_may_have_several_kinds_and_needs_little():
    text = """
        [providers.small]
        base_url = "https://s.example"
        [[providers.small.auth]]
        kind = "basic"
        [[providers.small.auth]]
        kind = "api_key"
        header = "X-Key"
    """
    small = instances(text)["small"]
    assert small.spec.auth == (Basic(), ApiKey(header="X-Key"))
    assert small.spec.name == "small"
    assert small.allows("https://s.example/x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('kind = "oauth2_auth_code"', 'kind = "oauth2"'), "providers.acme.auth"),
        (('kind = "oauth2_auth_code", ', ""), "must be a table with 'kind'"),
        (("token_url", "tokn_url"), "did you mean 'token_url'?"),
        (('scheme = "hmac"', 'scheme = "hmak"'), "Did you mean 'hmac'?"),
        (('rotation = "none"', 'rotation = "never"'), "must be one of"),
        (("tolerance = 60", "tolerance = '60'"), "providers.acme.webhook.tolerance"),
        (('path = "/contacts"', ""), "providers.acme.operations[0].path is not set"),
        (('capability = "contacts.read"', 'capability = "other"'), "needs the capability 'other'"),
        (('type = "integer"', 'type = "int"'), "operations[0].params[1].type"),
        (('path = "/contacts"', 'path = "/contacts/{id}"'), "there is no parameter 'id' with where = 'path'"),
        (('path = "/contacts"', 'path = "/contacts"\nkeyed = true'), "is keyed, and neither it nor the API has"),
        (('name = "Acme"', 'name = "Acme"\nuse = "hub"'), "cannot be declared here"),
        (('name = "Acme"', 'name = "Acme"\nfoo = 1'), "providers.acme.foo"),
    ],
)
def test_mistakes_in_a_declaration_are_named_to_the_key(change, said):
    text = DECLARED.replace(*change)
    assert text != DECLARED
    assert any(said in problem for problem in problems(text, environ={"ACME": "s"}))


def test_unknown_kind_of_call_is_one_problem():
    text = DECLARED.replace('path = "/contacts"', 'path = "/contacts"\ncall = { kind = "graphl" }')
    assert text != DECLARED
    (problem,) = problems(text, environ={"ACME": "s"})
    assert "operations[0].call" in problem


def test_a_strategy_without_a_record_cannot_be_declared():
    @frozen
    class Odd:
        kind: str = "odd"
        signer: str = "bearer"

    class Plugin:
        @hookimpl
        def gs_auth_strategies(self):
            return [AuthStrategySpec(kind="odd", flow=Ref("m:N"))]

    assert "cannot be declared" in problems("[providers.x]\nauth = {kind = 'odd'}\n", plugin=Plugin())[0]
