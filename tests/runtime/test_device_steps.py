"""A consent on another device in steps: begun here, asked there, and connected once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from go_services_core.errors import (
    AuthorizationPending,
    BadInput,
    BindingMismatch,
    CallbackRefused,
    ConnectFailed,
    InvalidGrant,
    ProviderChanged,
    StateExpired,
    StateUnknown,
    StateUsed,
)
from go_services_core.http import HttpResponse

from .test_flows import ACME, USER, Site, answer, site, tokens  # noqa: F401  site is a fixture


async def pending(site: Site, start, binding=None) -> float:  # noqa: F811
    with pytest.raises(AuthorizationPending) as caught:
        await site.runtime.poll_device(start.attempt_id, binding=binding or start.binding)
    return caught.value.retry_after


async def test_start_has_what_the_person_and_the_worker_need(site):  # noqa: F811
    site.device(interval=7, expires_in=300, verification_uri_complete="https://id.example/go?c=ABCD")
    start = await site.runtime.begin_device("tv", scope=USER)
    assert (start.url, start.verification_uri) == ("https://id.example/go?c=ABCD", "https://id.example/go")
    assert (start.user_code, start.interval) == ("ABCD", 7)
    assert start.expires_at - site.clock.now() == timedelta(seconds=300)
    assert start.binding.reveal() not in repr(start)


async def test_provider_is_asked_only_when_it_is_time_whoever_asks(site):  # noqa: F811
    """RFC 8628 §3.5: also right after the beginning, and slower for good after slow_down."""
    site.device(interval=5)
    start = await site.runtime.begin_device("tv", scope=USER)
    assert await pending(site, start) == 5  # nothing was sent: the transport would refuse it
    site.clock.advance(3)
    assert await pending(site, start) == 2
    for error, waits in (("authorization_pending", 5), ("slow_down", 10), ("authorization_pending", 10)):
        site.clock.advance(10)
        site.token(answer(400, error=error), device_code="dc-1")
        assert await pending(site, start) == waits
        assert await pending(site, start) == waits
    site.clock.advance(10)
    site.token(tokens(1))
    site.person()
    connection = await site.runtime.poll_device(start.attempt_id, binding=start.binding.reveal())
    assert (connection.status, connection.scope) == ("active", USER)
    with pytest.raises(StateUsed):
        await site.runtime.poll_device(start.attempt_id, binding=start.binding)


async def test_of_polls_at_once_one_asks(site):  # noqa: F811
    site.device()
    start = await site.runtime.begin_device("tv", scope=USER)
    site.clock.advance(5)
    site.token(tokens(1))
    site.person()
    calls = (site.runtime.poll_device(start.attempt_id, binding=start.binding) for _ in range(5))
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, (AuthorizationPending, StateUsed)) for one in done) == 4


async def test_wrong_binding_counts_and_the_fifth_ends_the_attempt(site):  # noqa: F811
    """P01."""
    site.device()
    start = await site.runtime.begin_device("tv", scope=USER)
    site.clock.advance(5)
    for wrong in ("", "guess", "guess", start.attempt_id, "guess"):
        with pytest.raises(BindingMismatch):
            await site.runtime.poll_device(start.attempt_id, binding=wrong)
    with pytest.raises(StateUsed):
        await site.runtime.poll_device(start.attempt_id, binding=start.binding)
    with pytest.raises(StateUnknown):
        await site.runtime.poll_device("none", binding=start.binding)


@pytest.mark.parametrize("state", ["{id}", "device:{id}", "\x00device\x00{id}", "device{id}"])
async def test_device_attempt_is_not_finished_by_a_callback(site, state):  # noqa: F811
    site.device()
    start = await site.runtime.begin_device("tv", scope=USER)
    with pytest.raises(StateUnknown):
        await site.runtime.complete({"code": "c", "state": state.format(id=start.attempt_id)}, binding=start.binding)


async def test_failure_on_the_way_leaves_the_attempt_open_and_is_told(site):  # noqa: F811
    site.device()
    start = await site.runtime.begin_device("tv", scope=USER)
    for failure in (ConnectFailed(), HttpResponse(503)):
        site.clock.advance(5)
        site.token(failure)
        with pytest.raises(Exception, match=r".") as caught:
            await site.runtime.poll_device(start.attempt_id, binding=start.binding)
        assert caught.value.retryable
    site.clock.advance(5)
    site.token(tokens(1))
    site.person()
    assert (await site.runtime.poll_device(start.attempt_id, binding=start.binding)).status == "active"


async def test_attempt_ends_with_its_code(site):  # noqa: F811
    site.device(expires_in=30)
    start = await site.runtime.begin_device("tv", scope=USER)
    site.clock.advance(30)
    with pytest.raises(StateExpired):
        await site.runtime.poll_device(start.attempt_id, binding=start.binding)


async def test_tokens_that_come_after_the_end_of_the_attempt_are_not_lost(site):  # noqa: F811
    """The question was in time; its answer took longer."""
    site.device(expires_in=30)
    start = await site.runtime.begin_device("tv", scope=USER)
    site.clock.advance(29)

    def late(request):
        site.clock.advance(10)
        return True

    site.transport.expect("POST", "https://id.example/token", tokens(1), where=late)
    site.person()
    assert (await site.runtime.poll_device(start.attempt_id, binding=start.binding)).status == "active"


@pytest.mark.parametrize(("error", "kind"), [("access_denied", CallbackRefused), ("invalid_grant", InvalidGrant)])
async def test_refusal_connects_nothing(site, error, kind):  # noqa: F811
    site.device()
    start = await site.runtime.begin_device("tv", scope=USER)
    site.clock.advance(5)
    site.token(answer(400, error=error))
    with pytest.raises(kind):
        await site.runtime.poll_device(start.attempt_id, binding=start.binding)
    assert (await site.runtime.connections()).items == ()


async def test_code_that_another_worker_has_spent_meanwhile_is_no_refusal(site):  # noqa: F811
    """Both asked, because an answer took longer than the pace: one has the tokens, and the other is told."""
    site.device()
    start = await site.runtime.begin_device("tv", scope=USER)
    site.clock.advance(5)

    def spent(request):
        (consent,) = site.runtime._core.store._tables.attempts.values()
        consent.consumed = True
        return True

    site.transport.expect("POST", "https://id.example/token", answer(400, error="invalid_grant"), where=spent)
    with pytest.raises(StateUsed):
        await site.runtime.poll_device(start.attempt_id, binding=start.binding)


async def test_provider_that_was_configured_differently_meanwhile_gets_no_code(site):  # noqa: F811
    site.device()
    start = await site.runtime.begin_device("tv", scope=USER)
    site.clock.advance(5)
    settings = site.runtime._core.instances["tv"].strategy_settings
    object.__setattr__(settings["oauth2_device_code"], "client_id", "another")
    with pytest.raises(ProviderChanged) as caught:
        await site.runtime.poll_device(start.attempt_id, binding=start.binding)
    assert caught.value.field == "client_id"


async def test_kind_without_another_device_and_foreign_connection_are_refused(site):  # noqa: F811
    with pytest.raises(BadInput) as caught:
        await site.runtime.begin_device("robot", scope=ACME)
    assert caught.value.field == "auth"
    site.device()
    site.token(tokens(1))
    site.person()
    made = await site.connect_device()
    with pytest.raises(BadInput) as caught:
        await site.runtime.begin_device("tv", scope=ACME, connection_id=made.id)
    assert caught.value.field == "connection_id"


async def test_cancelled_call_goes_on_with_what_it_showed(site):  # noqa: F811
    site.device()

    def shown(start) -> None:
        site.prompts.append(start)
        raise KeyError("the caller is gone")

    with pytest.raises(KeyError):
        await site.connect_device(show=shown)
    site.clock.advance(5)
    site.token(tokens(1))
    site.person()
    (start,) = site.prompts
    assert (await site.runtime.poll_device(start.attempt_id, binding=start.binding)).status == "active"
