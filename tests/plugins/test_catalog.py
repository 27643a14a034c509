from __future__ import annotations

import logging

import pytest

from go_services_core import (
    ApiSpec,
    Capability,
    HmacWebhook,
    OAuth2Code,
    Operation,
    OperationPack,
    PersonalToken,
    ProviderSpec,
    SecretSourceSpec,
    StoreSpec,
    hookimpl,
)
from go_services_core.catalog import Owner
from go_services_core.errors import ConfigError, PluginBroken, PluginConflict, PluginNotFound, ProviderNotFound
from go_services_core.plugins import PluginManager
from go_services_core.refs import Ref
from go_services_core.specs import MessageSpec

API = ApiSpec(base_url="https://api.example")


def provider(id: str = "acme", **values) -> ProviderSpec:
    return ProviderSpec(**{"name": id, "auth": PersonalToken(), "api": API, **values, "id": id})


def store(id: str, *schemes: str, facets=("connections",)) -> StoreSpec:
    return StoreSpec(id=id, url_schemes=schemes, factory=Ref("m:N"), facets=facets)


class Offers:
    """A plugin that offers the given providers, packs and stores."""

    def __init__(self, *records) -> None:
        self.records = records

    def of(self, kind):
        return [record for record in self.records if isinstance(record, kind)]

    @hookimpl
    def gs_providers(self):
        return self.of(ProviderSpec)

    @hookimpl
    def gs_operations(self):
        return self.of(OperationPack)

    @hookimpl
    def gs_stores(self):
        return self.of(StoreSpec)

    @hookimpl
    def gs_secret_sources(self):
        return self.of(SecretSourceSpec)

    @hookimpl
    def gs_messages(self):
        return self.of(MessageSpec)


def catalog(*records, **options):
    return PluginManager.of({"mine": Offers(*records)}, **options).catalog()


def test_every_record_knows_its_owner():
    made = catalog(provider())
    assert made.owner("signers", "bearer").distribution == "go-services-core"
    assert made.owner("providers", "acme") == Owner("mine")
    with pytest.raises(PluginNotFound, match="Did you mean 'acme'"):
        made.owner("providers", "acm")


def test_a_catalogue_cannot_be_changed():
    made = catalog(provider())
    with pytest.raises(TypeError):
        made.providers["other"] = provider("other")
    with pytest.raises(AttributeError):
        made.providers = {}


def test_two_owners_of_one_id_are_an_error_that_names_both_and_the_setting(site, install):
    install("github", version="0.4.1")
    install("mine", "from go_services_github_plugin import *", distribution="acme-github", version="2.0")
    with pytest.raises(PluginConflict) as caught:
        PluginManager(path=[str(site)]).catalog()
    text = str(caught.value)
    assert "Two plugins offer the provider 'github'" in text
    assert "go-services-github 0.4.1" in text
    assert "acme-github 2.0" in text
    assert "plugins.prefer.github" in text
    for preferred, version in (("mine", "2.0"), ("acme-github", "2.0"), ("acme_github", "2.0"), ("github", "0.4.1")):
        made = PluginManager(path=[str(site)], prefer={"github": preferred}).catalog()
        assert made.owner("providers", "github").version == version
    with pytest.raises(PluginConflict, match="'nobody', which is none of them"):
        PluginManager(path=[str(site)], prefer={"github": "nobody"}).catalog()


def test_a_plugin_that_shadows_a_builtin_is_a_conflict_too():
    env = SecretSourceSpec(scheme="env", factory=Ref("m:N"))
    with pytest.raises(PluginConflict, match=r"secret source 'env'.*go-services-core"):
        catalog(env)
    assert catalog(env, prefer={"env": "mine"}).secret_sources["env"] is env


def test_the_same_id_in_different_kinds_is_no_conflict():
    made = catalog(provider("sqlite"), store("sqlite", "sqlite"))
    assert made.providers["sqlite"].id == made.stores["sqlite"].id


FAULTS = {
    "upper case": (provider("Acme"), "lower-case"),
    "dot": (provider("ac.me"), "lower-case"),
    "empty id": (provider(""), "lower-case"),
    "unknown auth kind": (
        provider(auth=OAuth2Code(authorize_url="", token_url="", signer="nobody")),
        "signer 'nobody'",
    ),
    "no auth": (provider(auth=()), "authenticate"),
    "same auth twice": (provider(auth=(PersonalToken(), PersonalToken())), "'pat' occurs twice"),
    "same capability twice": (provider(capabilities=(Capability("a"), Capability("a"))), "capability 'a' occurs twice"),
    "same operation twice": (
        provider(operations=(Operation("o", "GET", "/"), Operation("o", "GET", "/"))),
        "operation 'o' occurs twice",
    ),
    "unknown capability": (provider(operations=Operation("o", "GET", "/", capability="c")), "capability 'c'"),
    "unknown facet": (store("s", "s", facets=("conections",)), "facet 'conections'"),
}


@pytest.mark.parametrize(("record", "said"), FAULTS.values(), ids=FAULTS)
def test_a_record_that_cannot_work_breaks_its_plugin(record, said):
    with pytest.raises(PluginBroken, match="'mine'") as caught:
        catalog(record)
    assert said in str(caught.value)
    assert caught.value.plugin == "mine"


def test_unknown_kinds_and_schemes_break_the_plugin_and_others_stay(site, install, caplog):
    source = """
        from attrs import frozen
        from go_services_core import ProviderSpec, SignerSpec, PersonalToken, Ref, hookimpl
        GS_CONTRACT = 1

        @frozen
        class Odd:
            kind: str = "odd"
            signer: str = "bearer"
            scheme: str = "odd"

        @hookimpl
        def gs_providers():
            return [ProviderSpec(id="{id}", name="x", {body})]
    """
    install("kind", source.replace("{body}", "auth=Odd()"))
    install("scheme", source.replace("{body}", "auth=PersonalToken(), webhook=Odd()"))
    install("good")
    manager = PluginManager(path=[str(site)])
    with caplog.at_level(logging.WARNING):
        made = manager.catalog()
    errors = {info.id: info.error for info in manager.plugins if info.status == "broken"}
    assert list(made.providers) == ["good"]
    assert "no auth strategy serves the kind 'odd'" in errors["kind"]
    assert "no webhook scheme 'odd'" in errors["scheme"]
    assert len(caplog.records) == 2


def test_a_plugin_whose_strategy_went_with_another_plugin_goes_too(site, install):
    install(
        "strategy",
        """
        from go_services_core import AuthStrategySpec, PersonalToken, ProviderSpec, Ref, hookimpl
        GS_CONTRACT = 1
        @hookimpl
        def gs_auth_strategies():
            return [AuthStrategySpec(kind="odd", flow=Ref("m:N"))]
        @hookimpl
        def gs_providers():
            return [ProviderSpec(id="Wrong", name="x", auth=PersonalToken())]
        """,
    )
    install(
        "user",
        """
        from attrs import frozen
        from go_services_core import ProviderSpec, hookimpl
        GS_CONTRACT = 1
        @frozen
        class Odd:
            kind: str = "odd"
            signer: str = "bearer"
        @hookimpl
        def gs_providers():
            return [ProviderSpec(id="user", name="x", auth=Odd())]
        """,
    )
    manager = PluginManager(path=[str(site)])
    assert manager.catalog().providers == {}
    assert {info.id: info.status for info in manager.plugins} == {
        "builtin": "loaded",
        "strategy": "broken",
        "user": "broken",
    }


def test_operation_packs_are_merged_into_their_provider():
    pack = OperationPack(
        id="more",
        provider_id="acme",
        capabilities=Capability("write"),
        operations=(Operation("w", "POST", "/w", capability="write"), Operation("r2", "GET", "/", capability="read")),
    )
    made = catalog(provider(capabilities=Capability("read"), operations=Operation("r", "GET", "/r")), pack)
    assert [operation.id for operation in made.providers["acme"].operations] == ["r", "w", "r2"]
    assert [capability.name for capability in made.providers["acme"].capabilities] == ["read", "write"]


def test_a_pack_that_adds_an_operation_that_is_there_is_a_conflict():
    pack = OperationPack(id="more", provider_id="acme", operations=Operation("r", "GET", "/other"))
    with pytest.raises(PluginConflict, match=r"operation 'r' occurs twice.*'base'.*'pack'"):
        PluginManager.of(
            {"base": Offers(provider(operations=Operation("r", "GET", "/r"))), "pack": Offers(pack)}
        ).catalog()


def test_a_pack_with_an_unknown_capability_is_its_own_plugins_fault():
    pack = OperationPack(id="more", provider_id="acme", operations=Operation("w", "POST", "/", capability="write"))
    with pytest.raises(PluginBroken, match="'pack'"):
        PluginManager.of({"base": Offers(provider()), "pack": Offers(pack)}).catalog()


def test_a_pack_for_a_provider_that_is_not_there_is_left_out_with_a_warning(caplog):
    pack = OperationPack(id="more", provider_id="absent", operations=Operation("w", "POST", "/"))
    with caplog.at_level(logging.WARNING):
        made = catalog(provider(), pack)
    assert list(made.providers) == ["acme"]
    assert "'absent'" in caplog.text


def test_declared_providers_of_the_application_join_and_are_checked():
    manager = PluginManager.of({})
    made = manager.catalog([provider("own")])
    assert made.owner("providers", "own").plugin == "application"
    assert manager.catalog().providers == {}
    with pytest.raises(PluginBroken, match="application"):
        manager.catalog([provider("own", webhook=HmacWebhook(signature_header="a", id_header="b"), auth=())])


def test_an_unknown_provider_is_reported_with_the_nearest_or_with_what_to_install():
    made = catalog(provider("github"))
    with pytest.raises(ProviderNotFound, match="Did you mean 'github'"):
        made.provider("githib")
    with pytest.raises(ProviderNotFound, match="go-services-google-gmail"):
        made.provider("google_gmail")
    assert made.provider("github").id == "github"


def test_stores_are_chosen_by_scheme_and_errors_never_repeat_the_url():
    made = catalog(store("pg", "postgresql", "postgres"))
    assert made.store_for("POSTGRES://u@h/d").id == "pg"
    with pytest.raises(ConfigError) as caught:
        made.store_for("sqlite://user:hunter2@host/db")
    assert "Schemes installed: postgres, postgresql." in str(caught.value)
    assert "Install go-services-store-sqlite" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="without a scheme"):
        made.store_for("hunter2")


def test_two_stores_for_one_scheme_are_a_conflict_that_a_preference_settles():
    plugins = {"one": Offers(store("one", "db", "one")), "two": Offers(store("two", "db"))}
    with pytest.raises(PluginConflict, match=r"plugins\.prefer\.db"):
        PluginManager.of(plugins).catalog()
    made = PluginManager.of(plugins, prefer={"db": "two"}).catalog()
    assert made.store_for("db://x").id == "two"
    assert made.store_for("one://x").id == "one"


@pytest.mark.parametrize(
    ("method", "name", "near"),
    [
        ("auth_strategy", "oauth2_auth_cod", "oauth2_auth_code"),
        ("signer", "bearrer", "bearer"),
        ("webhook_scheme", "hmacs", "hmac"),
        ("secret_backend", "appkey", "go-services-secrets-appkey"),
        ("transport", "rest", "go-services-transport-http"),
    ],
)
def test_lookups_say_what_is_near_or_what_to_install(method, name, near):
    with pytest.raises(PluginNotFound, match=near):
        getattr(catalog(), method)(name)


def test_lookups_find_what_is_there():
    made = catalog()
    assert made.auth_strategy("pat").kind == "pat"
    assert made.signer("basic").scheme == "basic"
    assert made.webhook_scheme("hmac").record is HmacWebhook


def test_names_of_messages_may_have_dots():
    message = MessageSpec(name="billing.sync_all", handler=Ref("m:N"))
    assert list(catalog(message).messages) == ["billing.sync_all"]
