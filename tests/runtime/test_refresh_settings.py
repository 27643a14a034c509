"""What operators and records say of renewals: checked before anything uses it."""

from __future__ import annotations

import math

import pytest
from attrs import evolve

from go_services_auth_jwt.records import JwtBearer, ServiceAccountJwt
from go_services_core.auth_specs import ClientCredentials, DeviceCode, OAuth2Code, TokenExchange
from go_services_core.errors import ConfigError

URL = "https://a.example/t"
SECONDS = ("refresh_margin", "default_lifetime", "refresh_lifetime", "refresh_inactivity")
RECORDS = [
    *((OAuth2Code, {"authorize_url": URL, "token_url": URL}, name) for name in (*SECONDS, "rotation_grace")),
    (DeviceCode, {"device_authorization_url": URL, "token_url": URL}, "rotation_grace"),
    (TokenExchange, {"token_url": URL}, "rotation_grace"),
    *((ClientCredentials, {"token_url": URL}, name) for name in SECONDS),
    (JwtBearer, {"token_url": URL}, "default_lifetime"),
    (ServiceAccountJwt, {"token_url": URL}, "default_lifetime"),
]


@pytest.mark.parametrize(("cls", "given", "name"), RECORDS)
@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf, -math.inf])
def test_seconds_that_are_no_time_are_refused_with_the_fields_name(cls, given, name, value):
    with pytest.raises(ValueError, match=name):
        cls(**given, **{name: value})
    assert getattr(cls(**given, **{name: 60}), name) == 60
    assert getattr(cls(**given, **{name: None}), name) is None


@pytest.mark.parametrize("name", ["refresh_lifetime", "refresh_inactivity"])
def test_refresh_token_that_never_lives_is_refused(name):
    with pytest.raises(ValueError, match=name):
        OAuth2Code(authorize_url=URL, token_url=URL, **{name: 0})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"runtime.refresh_deadline": 0.0}, "refresh_deadline"),
        ({"runtime.refresh_deadline": -1.0}, "refresh_deadline"),
        ({"runtime.refresh_deadline": math.nan}, "refresh_deadline"),
        ({"runtime.refresh_deadline": math.inf}, "refresh_deadline"),
        ({"runtime.refresh_deadline": 59.0}, "refresh_lease must be at least 61 seconds"),
        ({"runtime.refresh_lease": 46.0}, "refresh_lease must be at least 47 seconds"),
        ({"runtime.refresh_lease": math.inf}, "refresh_lease"),
        ({"runtime.refresh_lease": math.nan}, "refresh_lease"),
        ({"providers.sandbox.refresh_concurrency": 0}, "refresh_concurrency"),
        ({"providers.sandbox.refresh_rate": 0.0}, "refresh_rate"),
        ({"providers.sandbox.refresh_rate": math.nan}, "refresh_rate"),
        ({"providers.sandbox.refresh_rate": math.inf}, "refresh_rate"),
    ],
)
async def test_settings_that_cannot_work_are_refused_at_the_start(app, settings, named):
    app.template = None
    with pytest.raises(ConfigError, match=named):
        async with app.open(settings=settings):
            pass
    assert not app.database.exists()


async def test_lease_deadline_and_limits_are_those_of_the_settings(app):
    settings = {"runtime.refresh_lease": 7.0, "runtime.refresh_deadline": 5.0, "providers.sandbox.refresh_rate": 3.0}
    async with app.open(settings=settings) as runtime:
        connection = await app.connect(runtime)
        taken = []
        facet = runtime._core.store.connections
        open_refresh = facet.open_refresh

        async def noted(connection_id, *, owner, lease, intent_id):
            taken.append(lease)
            return await open_refresh(connection_id, owner=owner, lease=lease, intent_id=intent_id)

        facet.open_refresh = noted
        await runtime.refresh(connection.id)
        assert taken == [7.0]
        instance = runtime.providers()["sandbox"]
        assert (instance.refresh_rate, instance.refresh_concurrency) == (3.0, 8)


async def test_refresh_token_gets_the_records_life_only_when_it_is_new(app):
    """An answer without a refresh token does not begin its life anew."""
    auth = app.providers.specs["sandbox"].auth[0]
    app.set(auth=evolve(auth, refresh_lifetime=1000.0, rotation="none"))
    app.sandbox.rotation = "none"
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        _, first = await app.stored(runtime, connection.id)
        assert (first.refresh_expires_at - app.clock.now()).total_seconds() == 1000
        app.clock.advance(300)
        app.sandbox.token_answers.set("no-refresh", times=1)
        await runtime.refresh(connection.id)
        _, second = await app.stored(runtime, connection.id)
        assert (second.version, second.refresh_expires_at) == (2, first.refresh_expires_at)
