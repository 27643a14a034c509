"""P07: a consent that is given again and fails, at whatever step, leaves the connection exactly as it was."""

from __future__ import annotations

from typing import get_args

import pytest
from attrs import evolve

from go_services_core.callback import callback_response
from go_services_core.errors import BackendUnavailable, ServicesError, StoreUnavailable
from go_services_core.testing.sandbox import Account, TokenAnswer

from .attacks import unharmed
from .test_connect import RIGHT

FAULTS = ("429", "500", "503", "html", "cut", "empty", "truncated_json")
MALFORMED = [kind for kind in get_args(TokenAnswer) if kind not in RIGHT]


async def fails(app, runtime, good, change=lambda params: params, **begin):
    start, params = await app.begin(runtime, connection_id=good.id, **begin)
    with pytest.raises(ServicesError) as caught:
        await runtime.callback(change(params), binding=start.binding)
    assert callback_response(caught.value).status >= 300
    return caught.value


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("endpoint", ["token", "userinfo"])
async def test_endpoint_that_fails(either, endpoint, fault):
    async with either.open() as runtime, unharmed(either, runtime) as good:
        either.sandbox.faults.set(endpoint, fault)
        await fails(either, runtime, good)


@pytest.mark.parametrize("kind", MALFORMED)
async def test_token_answer_that_is_none(either, kind):
    async with either.open() as runtime, unharmed(either, runtime) as good:
        either.sandbox.token_answer = kind
        await fails(either, runtime, good)


async def test_refusal_by_the_person(either):
    async with either.open() as runtime, unharmed(either, runtime) as good:
        either.sandbox.deny_next = True
        assert (await fails(either, runtime, good)).code == "SERVICE_OAUTH_CALLBACK_REFUSED"


@pytest.mark.parametrize(
    "without", [("code",), ("code", "iss"), ("iss",)], ids=lambda names: "without " + " and ".join(names)
)
async def test_callback_that_lacks_something(either, without):
    async with either.open() as runtime, unharmed(either, runtime) as good:
        await fails(either, runtime, good, lambda params: {k: v for k, v in params.items() if k not in without})


async def test_another_account(either):
    async with either.open() as runtime, unharmed(either, runtime) as good:
        ours, either.sandbox.account = either.sandbox.account, Account(id="2002", login="bob", name="Bob")
        assert (await fails(either, runtime, good)).code == "SERVICE_ACCOUNT_MISMATCH"
        either.sandbox.account = ours


async def test_identity_that_is_not_to_be_asked(app):
    async with app.open() as runtime, unharmed(app, runtime) as good:
        identity = app.providers.specs["sandbox"].identity
        app.set(identity=evolve(identity, url="https://evil.example/me"))
        async with app.open() as changed:
            await fails(app, changed, good)


@pytest.mark.parametrize("step", ["consume_attempt", "next_version", "establish"])
async def test_store_that_fails(either, monkeypatch, step):
    async def down(*args, **kwargs):
        raise StoreUnavailable

    async with either.open() as runtime, unharmed(either, runtime) as good:
        with monkeypatch.context() as patch:
            patch.setattr(runtime._core.store.connections, step, down)
            assert isinstance(await fails(either, runtime, good), StoreUnavailable)


@pytest.mark.parametrize("step", ["seal", "open"])
async def test_secret_backend_that_fails(either, monkeypatch, step):
    async def down(*args, **kwargs):
        raise BackendUnavailable

    async with either.open() as runtime, unharmed(either, runtime) as good:
        start, params = await either.begin(runtime, connection_id=good.id)
        with monkeypatch.context() as patch:
            patch.setattr(type(runtime._core.sealer), step, down)
            with pytest.raises(BackendUnavailable):
                await runtime.complete(params, binding=start.binding)
