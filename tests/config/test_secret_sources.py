"""Secrets that are kept elsewhere: read when they are needed, again when they are old, never guessed."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from go_services_core import hookimpl
from go_services_core.config import Config, check, setting, settings
from go_services_core.config.secrets import RETRY, SourcedSecret, SourceSettings, resolver
from go_services_core.errors import BackendUnavailable, ConfigError
from go_services_core.plugins import PluginManager
from go_services_core.refs import Ref
from go_services_core.secret import SecretStr
from go_services_core.specs import SecretBackendSpec, SecretSourceSpec
from go_services_core.testing.clock import FrozenClock


@settings
class ShelfSettings:
    address: str = setting(default="here", help="Where the shelf is")
    token: SecretStr | None = setting(default=None, secret=True, help="What opens it")


class Shelf:
    """A source of secrets: what it holds, and what was asked of it."""

    made: ClassVar[list[SourceSettings]] = []
    holds: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []
    down = False

    def __init__(self, settings: SourceSettings, env: Any) -> None:
        self.made.append(settings)

    def get(self, name: str) -> SecretStr:
        self.asked.append(name)
        if self.down:
            raise BackendUnavailable("the shelf does not answer")
        if name not in self.holds:
            raise ConfigError(f"the shelf has no {name}.")
        return SecretStr(self.holds[name])


class Plugin:
    GS_CONTRACT = 1

    @hookimpl
    def gs_secret_sources(self) -> list[SecretSourceSpec]:
        return [SecretSourceSpec(scheme="shelf", factory=Ref(f"{__name__}:Shelf"), backend="shelf", remote=True)]

    @hookimpl
    def gs_secret_backends(self) -> list[SecretBackendSpec]:
        return [
            SecretBackendSpec(
                id="shelf",
                factory=Ref(f"{__name__}:nothing"),
                sealer=Ref(f"{__name__}:nothing"),
                settings=ShelfSettings,
            )
        ]


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> type[Shelf]:
    for name, empty in (("made", []), ("holds", {"//a#b": "first"}), ("asked", []), ("down", False)):
        monkeypatch.setattr(Shelf, name, empty)
    return Shelf


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


def resolve(clock: FrozenClock, *, environ: dict[str, str] | None = None, **arguments: Any) -> Any:
    config = Config.load(None, environ=environ or {}, arguments=arguments)
    return resolver(config, PluginManager.of({"shelf": Plugin()}).catalog(), clock=clock)


def test_remote_secret_is_read_at_its_first_use_and_then_kept(clock: FrozenClock) -> None:
    secret = resolve(clock)("shelf://a#b")
    assert isinstance(secret, SecretStr)
    assert bool(secret)
    assert "first" not in f"{secret!r}{secret}"
    assert Shelf.asked == [] == Shelf.made
    assert [secret.reveal(), secret.reveal()] == ["first", "first"]
    assert Shelf.asked == ["//a#b"]


def test_one_reference_is_one_secret(clock: FrozenClock) -> None:
    resolving = resolve(clock)
    assert resolving("shelf://a#b") is resolving("shelf://a#b")


def test_secret_on_this_machine_is_read_at_once_so_that_a_missing_one_is_told(clock: FrozenClock) -> None:
    with pytest.raises(ConfigError, match="NOWHERE is not set"):
        resolve(clock)("env:NOWHERE")
    assert resolve(clock, environ={"HERE": "x"})("env:HERE").reveal() == "x"


def test_old_secret_is_read_again_and_a_new_value_is_told(clock: FrozenClock, shelf: type[Shelf]) -> None:
    secret = resolve(clock, **{"secrets.source_ttl": 60.0})("shelf://a#b")
    assert secret.is_stale
    assert secret.read() is False  # a first value changes nothing
    assert not secret.is_stale
    shelf.holds["//a#b"] = "second"
    clock.advance(59.9)
    assert (secret.read(), secret.reveal()) == (False, "first")
    clock.advance(0.1)
    assert secret.is_stale
    assert (secret.read(), secret.reveal()) == (True, "second")
    assert len(shelf.asked) == 2


def test_refused_secret_is_read_again_before_its_time(clock: FrozenClock, shelf: type[Shelf]) -> None:
    secret = resolve(clock)("shelf://a#b")
    secret.read()
    assert secret.read(again=True) is False
    shelf.holds["//a#b"] = "second"
    assert secret.read(again=True) is True
    assert secret.reveal() == "second"


def test_source_that_fails_leaves_the_last_value_for_a_while(
    clock: FrozenClock, shelf: type[Shelf], caplog: pytest.LogCaptureFixture
) -> None:
    secret = resolve(clock)("shelf://a#b")
    secret.read()
    clock.advance(300.0)
    shelf.down = True
    with caplog.at_level(logging.WARNING, "go_services.config"):
        assert secret.read() is False
        assert secret.read() is False  # it is not asked again at once
    assert secret.reveal() == "first"
    assert len(shelf.asked) == 2
    assert [record.getMessage().count("shelf://a#b") for record in caplog.records] == [1]
    assert "first" not in caplog.text
    shelf.down = False
    shelf.holds["//a#b"] = "second"
    clock.advance(RETRY)
    assert secret.read() is True


def test_source_that_never_answered_is_an_error_each_time(clock: FrozenClock, shelf: type[Shelf]) -> None:
    secret = resolve(clock)("shelf://a#b")
    shelf.down = True
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            secret.reveal()
    assert len(shelf.asked) == 2
    assert secret.is_stale


def test_missing_secret_is_named_by_its_reference(clock: FrozenClock) -> None:
    with pytest.raises(ConfigError, match="//none#x"):
        resolve(clock)("shelf://none#x").reveal()


def test_source_gets_the_settings_of_its_backend_with_local_secrets_only(clock: FrozenClock) -> None:
    given = {"secrets.shelf.address": "there", "secrets.shelf.token": "env:TOKEN"}
    resolve(clock, environ={"TOKEN": "t"}, **given)("shelf://a#b").reveal()
    (made,) = Shelf.made
    assert made.settings.address == "there"
    assert made.settings.token == SecretStr("t")
    with pytest.raises(ConfigError, match=r"secrets\.shelf\.token \(argument\): refers to 'shelf'"):
        resolve(clock, **{"secrets.shelf.token": "shelf://a#b"})("shelf://a#b").reveal()


def test_many_threads_read_a_secret_once(clock: FrozenClock, shelf: type[Shelf]) -> None:
    secret = resolve(clock)("shelf://a#b")
    ready = threading.Barrier(8)
    got: list[str] = []

    def use() -> None:
        ready.wait()
        got.append(secret.reveal())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["first"] * 8
    assert len(shelf.asked) == 1


def test_equality_is_that_of_the_values(clock: FrozenClock) -> None:
    secret = resolve(clock)("shelf://a#b")
    assert secret == SecretStr("first")
    assert SecretStr("first") == secret
    assert SecretStr("other") != secret
    assert hash(secret) == hash(SecretStr("first"))


def test_check_of_a_configuration_asks_no_remote_source(tmp_path: Path) -> None:
    config = Config.load(
        None, environ={}, arguments={"providers.any.webhook_secrets": ["shelf://a#b"], "providers.any.auth": "x"}
    )
    check(config, PluginManager.of({"shelf": Plugin()}).catalog())
    assert Shelf.asked == []


def nothing(*_: Any) -> Any:
    raise AssertionError("not used")


def test_sourced_secret_cannot_be_pickled(clock: FrozenClock) -> None:
    import pickle

    with pytest.raises(TypeError):
        pickle.dumps(SourcedSecret("env:X", lambda: SecretStr("x"), clock=clock, ttl=1.0))
