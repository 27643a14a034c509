"""Client and webhook secrets that change at the provider while the application runs."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

import pytest

from go_services_core import hookimpl
from go_services_core.errors import ConfigError, TokenEndpointError, WebhookRejected
from go_services_core.refs import Ref
from go_services_core.runtime.settings_secrets import PAUSE
from go_services_core.secret import SecretStr
from go_services_core.specs import SecretSourceSpec
from go_services_core.testing.sandbox.webhooks import sign


class Remote:
    """A source that is asked when a secret is needed."""

    GS_CONTRACT = 1
    known: ClassVar[dict[str, str]] = {"client": "x"}

    def __init__(self, *_):
        pass

    @hookimpl
    def gs_secret_sources(self):
        return [SecretSourceSpec(scheme="remote", factory=Ref(f"{__name__}:Remote"), remote=True)]

    def get(self, name):
        if name not in self.known:
            raise ConfigError(f"there is no {name}.")
        return SecretStr(self.known[name])


BODY = b'{"type": "item.created", "data": {}}'


@pytest.fixture
def kept(app, tmp_path):
    """An application whose client and webhook secrets are files."""

    def write(name, value):
        (tmp_path / name).write_text(value)
        return f"file:{tmp_path / name}"

    made = dict(app.settings["providers.sandbox"])
    made["client_secret"] = write("client", app.sandbox.client_secret.reveal())
    made["webhook_secrets"] = [write("webhook", app.sandbox.webhook_secret.reveal())]
    app.settings["providers.sandbox"] = made
    app.write = write
    return app


async def test_client_secret_that_is_refused_is_read_again_and_the_refresh_repeated(kept, counted):
    async with kept.open() as runtime:
        connection = await kept.connect(runtime)
        kept.sandbox.client_secret = SecretStr("changed-at-the-provider")
        counted()
        with pytest.raises(TokenEndpointError) as refused:
            await runtime.refresh(connection.id)
        assert refused.value.error == "invalid_client"
        assert counted()["token"] == 1  # it was read again, and is the same: no second request

        kept.write("client", "changed-at-the-provider")
        kept.clock.advance(PAUSE)
        kept.age(PAUSE)
        await runtime.refresh(connection.id)
        assert counted()["token"] == 2  # refused with the old one, then repeated with the new one
        await runtime.refresh(connection.id)
        assert counted()["token"] == 1


async def test_code_exchange_is_repeated_with_the_new_client_secret(kept, counted):
    async with kept.open() as runtime:
        start, params = await kept.begin(runtime)
        kept.sandbox.client_secret = SecretStr("changed")
        kept.write("client", "changed")
        connection = await runtime.complete(params, binding=start.binding)
        assert connection.status == "active"
        assert counted()["token"] == 2


async def test_refused_secret_is_not_read_at_every_refusal(kept, tmp_path):
    async with kept.open() as runtime:
        connection = await kept.connect(runtime)
        kept.sandbox.client_secret = SecretStr("changed")
        with pytest.raises(TokenEndpointError):
            await runtime.refresh(connection.id)
        kept.write("client", "changed")
        kept.clock.advance(PAUSE - 1)
        kept.age(PAUSE)
        with pytest.raises(TokenEndpointError):
            await runtime.refresh(connection.id)
        kept.clock.advance(1)
        kept.age(PAUSE)
        await runtime.refresh(connection.id)


async def test_old_secret_is_read_again_before_it_is_refused(kept, counted):
    async with kept.open(settings={"secrets.source_ttl": 60.0}) as runtime:
        connection = await kept.connect(runtime)
        kept.sandbox.client_secret = SecretStr("changed")
        kept.write("client", "changed")
        kept.clock.advance(60)
        counted()
        await runtime.refresh(connection.id)
        assert counted()["token"] == 1


async def test_webhook_with_a_new_secret_is_accepted_after_the_secret_was_read_again(kept):
    async with kept.open() as runtime:
        new = SecretStr("a-new-webhook-secret-of-some-length")
        stamp = int(kept.clock.now().timestamp())
        delivery = kept.webhook(BODY, webhook_signature=sign(new, "msg_1", stamp, BODY))
        with pytest.raises(WebhookRejected):
            await runtime.accept_webhook("sandbox", delivery)
        kept.write("webhook", new.reveal())
        with pytest.raises(WebhookRejected):
            await runtime.accept_webhook("sandbox", delivery)  # forged ones may not have it read all the time
        kept.clock._monotonic += PAUSE
        assert not (await runtime.accept_webhook("sandbox", delivery)).duplicate
        with pytest.raises(WebhookRejected):
            await runtime.accept_webhook("sandbox", kept.webhook(BODY, id="msg_2"))


async def test_file_that_went_away_leaves_the_secret_that_was_read(kept, tmp_path):
    async with kept.open(settings={"secrets.source_ttl": 60.0}) as runtime:
        connection = await kept.connect(runtime)
        (tmp_path / "client").unlink()
        kept.clock.advance(61)
        await runtime.refresh(connection.id)
    with pytest.raises(ConfigError, match="client"):
        async with kept.open():
            pass


async def test_doctor_is_told_every_reference_that_leads_to_nothing(app, tmp_path):
    (tmp_path / "client").write_text(app.sandbox.client_secret.reveal())
    made = dict(app.settings["providers.sandbox"])
    made["client_secret"] = "remote:client"
    made["webhook_secrets"] = ["remote:hook", "remote:other"]
    app.settings["providers.sandbox"] = made
    async with app.open(plugins={"remote": Remote()}) as runtime:
        with pytest.raises(ConfigError) as refused:
            await runtime.check_settings()
        assert len(refused.value.problems) == 2
        healths = dict(await runtime.health())
        assert not healths["settings"].ok
        assert "hook" in healths["settings"].detail
        with pytest.raises(ConfigError, match="hook"):
            await runtime.accept_webhook("sandbox", app.webhook(BODY))
        Remote.known.update(hook="a", other="b")
        assert await runtime.check_settings() == 3
        assert dict(await runtime.health())["settings"].ok


async def test_plain_settings_are_asked_for_nothing(app):
    async with app.open() as runtime:
        await app.connect(runtime)
        assert runtime._core.sourced == {"sandbox": ()}
        assert runtime._core.next_reading == {}
        app.clock.advance(timedelta(days=1).total_seconds())
