from __future__ import annotations

import logging
import sys
from textwrap import dedent
from types import ModuleType

import attrs
import pytest

from go_services_core import PersonalToken, ProviderSpec, SignerSpec, hookimpl
from go_services_core.config import Config
from go_services_core.errors import PluginBroken, PluginConflict, PluginIncompatible, PluginNotFound
from go_services_core.hookspecs import COLLECTED, HookSpecs
from go_services_core.plugins import PluginManager
from go_services_core.refs import Ref

BROKEN = {
    "import error": ("import surely_not_there", "ModuleNotFoundError"),
    "exit at import": ("import sys; sys.exit(3)", "SystemExit"),
    "unknown hook": (
        "from go_services_core import hookimpl\nGS_CONTRACT = 1\n@hookimpl\ndef gs_provider(): return ()",
        "gs_provider, which core",
    ),
    "unmarked hook": ("GS_CONTRACT = 1\ndef gs_providers(): return ()", "@hookimpl"),
    "unknown argument": (
        "from go_services_core import hookimpl\nGS_CONTRACT = 1\n@hookimpl\ndef gs_providers(registry): return ()",
        "registry",
    ),
    "wrapper": (
        "from go_services_core import hookimpl\nGS_CONTRACT = 1\n@hookimpl(wrapper=True)\ndef gs_providers(): yield",
        "wrapper",
    ),
}
BROKEN_HOOKS = {
    "exception": ("raise ValueError('no luck')", "raised ValueError: no luck"),
    "exit": ("raise SystemExit(1)", "raised SystemExit"),
    "one record": ("return SignerSpec(scheme='x', signer=Ref('m:N'))", "SignerSpec"),
    "text": ("return 'github'", "str"),
    "mapping": ("return {}", "dict"),
    "number": ("return 3", "int"),
    "no records": ("return [1]", "int"),
    "another record": ("return [SignerSpec(scheme='x', signer=Ref('m:N'))]", "SignerSpec"),
    "generator that fails": ("yield SPEC\n    raise KeyError('late')", "raised KeyError"),
}
HOOK = """
from go_services_core import PersonalToken, ProviderSpec, Ref, SignerSpec, hookimpl
GS_CONTRACT = 1
SPEC = ProviderSpec(id="broken", name="Broken", auth=PersonalToken())
@hookimpl
def gs_signers():
    return [SignerSpec(scheme="mine", signer=Ref("m:N"))]
@hookimpl
def gs_providers():
    {body}
"""


def plugin(**hooks) -> ModuleType:
    """A plugin module whose hooks return what is given, or call it."""
    made = ModuleType("plugin")
    made.GS_CONTRACT = 1
    for name, result in hooks.items():
        namespace: dict = {"result": result}
        exec(f"def {name}():\n    return result() if callable(result) else result", namespace)
        setattr(made, name, hookimpl(namespace[name]))
    return made


def provider(id: str, **values) -> ProviderSpec:
    return ProviderSpec(**{"name": id, "auth": PersonalToken(), **values, "id": id})


@pytest.mark.parametrize(("source", "said"), BROKEN.values(), ids=BROKEN)
def test_an_installed_plugin_that_does_not_load_costs_one_warning(site, install, caplog, source, said):
    install("broken", source, version="0.2")
    install("good")
    manager = PluginManager(path=[str(site)])
    with caplog.at_level(logging.WARNING):
        catalog = manager.catalog()
    info = {info.id: info for info in manager.plugins}["broken"]
    assert info.status == "broken"
    assert said in info.error
    assert "good" in catalog.providers
    (record,) = caplog.records
    assert "go-services-broken 0.2" in record.getMessage()


@pytest.mark.parametrize(("source", "said"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("options", [{"enabled": ["broken"]}, {"strict": True}], ids=["enabled", "strict"])
def test_a_plugin_that_must_work_and_does_not_is_an_error(site, install, source, said, options):
    install("broken", source, version="0.2")
    with pytest.raises(PluginBroken, match=r"go-services-broken 0\.2") as caught:
        PluginManager(path=[str(site)], **options).load()
    assert said in str(caught.value)
    assert caught.value.plugin == "broken"
    assert "plugins.disabled" in caught.value.hint


@pytest.mark.parametrize(("body", "said"), BROKEN_HOOKS.values(), ids=BROKEN_HOOKS)
def test_a_hook_that_fails_takes_its_whole_plugin_out_and_nobody_else(site, install, caplog, body, said):
    install("broken", HOOK.replace("{body}", body))
    install("good")
    manager = PluginManager(path=[str(site)])
    with caplog.at_level(logging.WARNING):
        catalog = manager.catalog()
    assert list(catalog.providers) == ["good"]
    assert "mine" not in catalog.signers
    info = {info.id: info for info in manager.plugins}["broken"]
    assert info.status == "broken"
    assert info.error.startswith("gs_providers ")
    assert said in info.error
    assert len(caplog.records) == 1
    with pytest.raises(PluginBroken):
        PluginManager(path=[str(site)], enabled=["broken", "good"]).catalog()


def test_an_async_hook_is_refused_without_a_warning_of_its_own(site, install):
    install("broken", HOOK.replace("{body}", "pass").replace("def gs_providers", "async def gs_providers"))
    manager = PluginManager(path=[str(site)])
    manager.catalog()
    assert "async" in {info.id: info.error for info in manager.plugins}["broken"]


def test_an_unknown_hook_is_reported_with_the_nearest_known_one(site, install):
    install("broken", BROKEN["unknown hook"][0])
    with pytest.raises(PluginBroken, match="did you mean gs_providers"):
        PluginManager(path=[str(site)], strict=True).load()


@pytest.mark.parametrize(
    ("line", "said"), [("", "None|does not say"), ("GS_CONTRACT = 2", "2"), ("GS_CONTRACT = '1'", "1")]
)
def test_another_contract_is_incompatible_and_not_a_crash(site, install, line, said):
    source = f"from go_services_core import hookimpl\n{line}\n@hookimpl\ndef gs_from_the_future(): return 1"
    install("late", source)
    manager = PluginManager(path=[str(site)])
    assert manager.catalog().providers == {}
    assert {info.id: info.status for info in manager.plugins}["late"] == "incompatible"
    with pytest.raises(PluginIncompatible, match=said):
        PluginManager(path=[str(site)], enabled=["late"]).load()


def test_a_disabled_plugin_is_not_imported(site, install):
    install("acme", "raise RuntimeError('imported')")
    manager = PluginManager(path=[str(site)], disabled=["acme"], strict=True)
    manager.load()
    assert {info.id: info.status for info in manager.plugins}["acme"] == "disabled"
    assert "go_services_acme_plugin" not in sys.modules


def test_a_plugin_off_the_allow_list_is_not_imported(site, install):
    install("acme", "raise RuntimeError('imported')")
    install("good")
    manager = PluginManager(path=[str(site)], enabled=["good"])
    assert list(manager.catalog().providers) == ["good"]
    assert {info.id: info.status for info in manager.plugins} == {
        "acme": "disabled",
        "builtin": "loaded",
        "good": "loaded",
    }


def test_an_enabled_plugin_that_is_not_installed_is_reported_with_the_nearest_name(site, install):
    install("github")
    with pytest.raises(PluginNotFound, match="Did you mean 'github'"):
        PluginManager(path=[str(site)], enabled=["githib"]).load()
    with pytest.raises(PluginNotFound, match="Install go-services-shopify"):
        PluginManager(path=[str(site)], enabled=["shopify"]).load()


def test_a_plugin_that_is_there_twice_is_refused_with_both_origins(site, install):
    install("acme", distribution="go-services-acme", version="1.0")
    install("acme", distribution="other-acme", version="2.0")
    manager = PluginManager(path=[str(site)])
    with pytest.raises(PluginConflict) as caught:
        manager.load()
    assert f"go-services-acme 1.0 ({site.resolve()})" in str(caught.value)
    assert f"other-acme 2.0 ({site.resolve()})" in str(caught.value)
    assert [info.status for info in manager.discover() if info.id == "acme"] == ["broken", "broken"]
    PluginManager(path=[str(site)], disabled=["acme"]).load()


def test_nobody_can_take_the_place_of_the_builtin_plugin(site, install):
    install("builtin", distribution="impostor")
    with pytest.raises(PluginConflict) as caught:
        PluginManager(path=[str(site)]).load()
    assert "impostor 1.0" in str(caught.value)
    assert "go-services-core" in str(caught.value)


def test_loading_again_does_nothing(site, install):
    install(
        "acme",
        "import go_services_core\nGS_CONTRACT = 1\ngo_services_core.loads = getattr(go_services_core, 'loads', 0) + 1",
    )
    manager = PluginManager(path=[str(site)])
    manager.load()
    manager.load()
    import go_services_core

    assert go_services_core.__dict__.pop("loads") == 1


def test_attributes_without_the_prefix_are_never_read():
    class Touchy:
        GS_CONTRACT = 1

        @property
        def boom(self):
            raise RuntimeError("was read")

        def __getattribute__(self, name):
            if not name.startswith(("gs_", "__", "GS_")):
                raise RuntimeError(f"{name} was read")
            return super().__getattribute__(name)

        @hookimpl
        def gs_providers(self):
            return [provider("touchy")]

    assert "touchy" in PluginManager.of({"touchy": Touchy()}).catalog().providers


def test_a_plugin_may_be_an_instance_of_a_subclass_of_the_specifications():
    class Mine(HookSpecs):
        @hookimpl
        def gs_providers(self):
            return [provider("mine")]

    manager = PluginManager.of({"mine": Mine()})
    assert "mine" in manager.catalog().providers
    assert {info.id: info.kinds for info in manager.plugins}["mine"] == ("providers",)


def test_plugin_objects_that_are_handed_in_must_work():
    def fails():
        raise ValueError("no")

    with pytest.raises(PluginBroken, match="'acme'"):
        PluginManager.of({"acme": plugin(gs_providers=fails)}).catalog()


def test_hooks_that_return_none_count_as_empty():
    manager = PluginManager.of({"empty": plugin(**dict.fromkeys(COLLECTED))})
    assert manager.catalog().providers == {}
    assert {info.id: info.status for info in manager.plugins}["empty"] == "loaded"


def test_registration_hooks_are_called_once(site):
    calls = []

    def count():
        calls.append(1)
        return [provider("acme")]

    manager = PluginManager.of({"acme": plugin(gs_providers=count)})
    manager.catalog()
    manager.catalog()
    assert calls == [1]


def test_builtins_use_the_same_door_and_can_be_replaced_one_by_one():
    mine = SignerSpec(scheme="bearer", signer=Ref("mine:Signer"))
    for id, options in (("first", {"prefer": {"bearer": "first"}}), ("only", {"disabled": ["builtin"]})):
        catalog = PluginManager.of({id: plugin(gs_signers=[mine])}, **options).catalog()
        assert catalog.signers["bearer"] is mine
    assert set(catalog.signers) == {"bearer"}
    assert catalog.auth_strategies == {}


def test_every_reference_of_the_builtin_plugin_resolves():
    manager = PluginManager.of({})
    records = [record for offered in manager.offered("builtin").values() for record in offered]
    refs = [ref for record in records for ref in vars_of(record) if isinstance(ref, Ref)]
    assert len(refs) >= 10
    assert all(callable(ref.resolve()) for ref in refs)


def vars_of(record) -> list:
    return [getattr(record, field.name) for field in attrs.fields(type(record))]


def test_choices_come_from_the_configuration(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[plugins]\nenabled = []\ndisabled = ["builtin"]\nstrict = true\n')
    manager = PluginManager.from_config(Config.load(file, environ={}))
    manager.load()
    assert {info.status for info in manager.plugins} == {"disabled"}


OWNING = """
    from go_services_core import hookimpl
    GS_CONTRACT = 1
    @hookimpl
    def gs_callback_url(provider_id):
        {body}
"""


def test_the_first_owner_by_id_answers_and_a_failing_one_is_passed_over(site, install, caplog):
    install("a", dedent(OWNING).replace("{body}", "return None"))
    install("b", dedent(OWNING).replace("{body}", "raise ValueError('broken')"))
    install("c", dedent(OWNING).replace("{body}", "return 'from c for ' + provider_id"))
    install("d", dedent(OWNING).replace("{body}", "return 'from d'"))
    manager = PluginManager(path=[str(site)])
    with caplog.at_level(logging.WARNING):
        assert manager.first("gs_callback_url", "github") == "from c for github"
        assert manager.first("gs_callback_url", "github") == "from c for github"
    assert len(caplog.records) == 1
    info = {info.id: info for info in manager.plugins}["b"]
    assert (info.status, "gs_callback_url" in info.error) == ("broken", True)
    assert manager.first("gs_error_classifier", "github") is None
    with pytest.raises(PluginBroken, match="Did you mean gs_callback_url"):
        manager.first("gs_callback_uri", "github")


def test_lifespans_are_gathered_and_wrong_ones_cost_only_their_plugin(site, install):
    source = """
        from contextlib import asynccontextmanager
        from go_services_core import hookimpl
        GS_CONTRACT = 1
        @hookimpl
        def gs_lifespan(runtime):
            return {body}
    """
    install(
        "good",
        dedent(source).replace("{body}", "asynccontextmanager(lambda: runtime)()").replace("lambda: runtime", "run")
        + dedent("""
        async def run():
            yield
    """),
    )
    install("fails", dedent(source).replace("{body}", "1 / 0"))
    install("none", dedent(source).replace("{body}", "None"))
    install("wrong", dedent(source).replace("{body}", "runtime"))
    manager = PluginManager(path=[str(site)])
    (lifespan,) = manager.lifespans(object())
    assert hasattr(lifespan, "__aenter__")
    errors = {info.id: info.error for info in manager.plugins if info.status == "broken"}
    assert set(errors) == {"fails", "wrong"}
    assert "raised ZeroDivisionError" in errors["fails"]
    assert "not an async context manager" in errors["wrong"]


def test_a_plugin_can_refuse_the_start_when_the_catalogue_is_complete():
    seen = []

    class Guard:
        @hookimpl
        def gs_catalog_ready(self, catalog):
            seen.append(set(catalog.providers))
            raise ValueError("two providers are one too many")

    with pytest.raises(PluginBroken, match="two providers are one too many") as caught:
        PluginManager.of({"guard": Guard(), "p": plugin(gs_providers=[provider("a"), provider("b")])}).catalog()
    assert seen == [{"a", "b"}]
    assert caught.value.plugin == "guard"


def test_what_one_plugin_offers_can_be_asked_alone(site, install):
    install("acme")
    install("broken", "import surely_not_there")
    manager = PluginManager(path=[str(site)])
    (spec,) = manager.offered("acme")["gs_providers"]
    assert spec.id == "acme"
    with pytest.raises(PluginBroken, match="surely_not_there"):
        manager.offered("broken")
    with pytest.raises(PluginNotFound, match="acme"):
        manager.offered("acne")
