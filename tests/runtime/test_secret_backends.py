"""Secret backends that are made of others, and what parts may tell observers out of line."""

from __future__ import annotations

import sys

import pytest

from go_services_core import ObserverSpec, Ref, SecretBackendSpec, hookimpl
from go_services_core.config.schema import setting, settings
from go_services_core.errors import ConfigError, PluginNotFound
from go_services_core.model import Observation

THIS = "made_backends"
made: list[tuple[str, object]] = []
closed: list[str] = []
told: list[Observation] = []
env_of_observer: list[object] = []


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """References resolve to this module under a name of its own."""
    monkeypatch.setitem(sys.modules, THIS, sys.modules[__name__])
    for kept in (made, closed, told, env_of_observer):
        kept.clear()


@settings
class OuterSettings:
    of: tuple[str, ...] = setting(help="What it is made of.")
    word: str = setting(default="", help="Something to see.")


class Outer:
    """Made of others, the first of which does everything."""

    def __init__(self, id, parts, env):
        self.id = id
        self.parts = parts
        self.env = env

    def __getattr__(self, name):
        return getattr(self.parts[0], name)

    async def check(self):
        self.env.observe(Observation(name="outer.checked", at=self.env.clock.now()))
        return await self.parts[0].check()

    async def aclose(self):
        self.env.observe(Observation(name=f"outer.closed.{self.id}", at=self.env.clock.now()))
        closed.append(self.id)


def _maker(id):
    def make(given, env):
        backend = Outer(id, [env.secret_backend(part) for part in given.of], env)
        made.append((id, given))
        return backend

    return make


outer, middle, other = _maker("outer"), _maker("middle"), _maker("other")


def observer(given, env):
    env_of_observer.append(env)
    return told.append


class Backends:
    GS_CONTRACT = 1

    @hookimpl
    def gs_secret_backends(self):
        sealer = Ref("go_services_envelope:Sealer")
        return [
            SecretBackendSpec(id=id, factory=Ref(f"{THIS}:{id}"), sealer=sealer, settings=Ref(f"{THIS}:OuterSettings"))
            for id in ("outer", "middle", "other")
        ]

    @hookimpl
    def gs_observers(self):
        return [ObserverSpec(id="seen", factory=Ref(f"{THIS}:observer"))]


def opened(app, **given):
    names = {f"secrets.{key.replace('__', '.')}": value for key, value in given.items()}
    return app.open(settings={"secrets.backend": "outer", **names}, plugins={"backends": Backends()})


async def test_backend_gets_others_made_from_their_own_settings_each_once_and_closed_once_after_it(app):
    async with opened(
        app, outer__of=["middle", "other", "appkey"], middle__of=["other"], middle__word="m", other__of=["appkey"]
    ) as runtime:
        assert (await runtime.check_key()).backend == "appkey"
        assert [(id, given.word) for id, given in made] == [("other", ""), ("middle", "m"), ("outer", "")]
        top = runtime._core.backend
        assert top.parts[0].parts[0] is top.parts[1], "each is made once"
        assert top.parts[1].parts[0] is top.parts[2]
        assert env_of_observer[0].secret_backend("middle") is top.parts[0]
        assert closed == []
    assert closed == ["outer", "middle", "other"], "what is made of others goes first"


@pytest.mark.parametrize(
    ("given", "circle"),
    [
        ({"outer__of": ["outer"]}, "outer → outer"),
        ({"outer__of": ["middle"], "middle__of": ["outer"]}, "outer → middle → outer"),
        ({"outer__of": ["middle"], "middle__of": ["other"], "other__of": ["middle"]}, "middle → other → middle"),
    ],
)
async def test_backends_in_a_circle_are_refused_and_nothing_is_made(app, given, circle):
    app.template = None
    with pytest.raises(ConfigError, match=circle):
        async with opened(app, **given):
            pytest.fail("opened")
    assert made == []
    assert not app.database.exists()


async def test_backend_that_nobody_offers_is_named(app):
    with pytest.raises(PluginNotFound, match="midle"):
        async with opened(app, outer__of=["midle"]):
            pytest.fail("opened")


async def test_settings_of_a_backend_that_another_is_made_of_are_checked(app):
    with pytest.raises(ConfigError, match=r"secrets\.middle\.wrd"):
        async with opened(app, outer__of=["middle"], middle__of=["appkey"], middle__wrd="x"):
            pytest.fail("opened")
    with pytest.raises(ConfigError, match=r"secrets\.middle\.of"):
        async with opened(app, outer__of=["middle"]):
            pytest.fail("opened")


async def test_what_was_made_is_closed_when_a_later_one_fails(app):
    with pytest.raises(PluginNotFound):
        async with opened(app, outer__of=["middle", "nobody"], middle__of=["other"], other__of=[]):
            pytest.fail("opened")
    assert closed == ["middle", "other"]


async def test_what_a_backend_tells_reaches_observers_from_before_they_were_there_until_after_the_end(app):
    async with opened(app, outer__of=["appkey"]) as runtime:
        await runtime.check_key()
    names = [seen.name for seen in told]
    assert (names[0], names[-1], len(set(names))) == ("outer.checked", "outer.closed.outer", 2)
