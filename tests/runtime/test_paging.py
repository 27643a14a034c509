"""Lists in every style of paging: to the end, up to a limit, from a token, and never for ever."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from attrs import evolve

from go_services_core.errors import BadInput, EgressDenied, PermissionDenied, RequestTimeout, ResponseInvalid

from .list_server import KEY, TOTAL, connect

STYLES = ("link", "next_url", "cursor", "has_more", "offset", "page", "graph")


@pytest.fixture
async def runtime(lists_app):
    async with lists_app() as found:
        yield found


@pytest.fixture
async def connection(runtime):
    return await connect(runtime)


async def ids(found):
    return [item["id"] async for item in found]


@pytest.mark.parametrize("style", STYLES)
async def test_every_style_gives_each_item_once_and_ends(runtime, connection, server, style):
    assert await ids(runtime.paginate(connection.id, f"{style}.list")) == list(range(TOTAL))
    # Only what is continued by number without a size that can be trusted takes one page more to see the end.
    assert len(server.asked) == (6 if style == "page" else 5)


@pytest.mark.parametrize("style", ["link", "next_url", "cursor", "graph"])
async def test_an_empty_page_does_not_end_a_list_that_has_a_next_one(runtime, connection, server, style):
    server.wrong = "empty"
    assert await ids(runtime.paginate(connection.id, f"{style}.list")) == [*range(5), *range(10, TOTAL)]


async def test_short_page_ends_a_list_only_where_the_size_is_known_to_be_given(runtime, connection, server):
    assert await ids(runtime.paginate(connection.id, "offset.list", {"size": 10})) == list(range(TOTAL))
    assert len(server.asked) == 3
    with pytest.raises(BadInput, match="at most 10"):
        await anext(runtime.paginate(connection.id, "offset.list", {"size": 11}))
    assert len(server.asked) == 3


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("limit", "pages"), [(0, 0), (3, 1), (5, 1), (6, 2)])
async def test_limit_ends_without_a_page_too_many(runtime, connection, server, style, limit, pages):
    assert await ids(runtime.paginate(connection.id, f"{style}.list", limit=limit)) == list(range(limit))
    assert len(server.asked) == pages


async def test_max_pages_ends_after_so_many_calls(runtime, connection, server):
    assert await ids(runtime.paginate(connection.id, "cursor.list", max_pages=2)) == list(range(10))
    assert len(server.asked) == 2
    with pytest.raises(BadInput, match="max_pages"):
        await anext(runtime.paginate(connection.id, "cursor.list", max_pages=-1))


async def test_a_page_is_asked_for_when_its_first_item_is(runtime, connection, server):
    found = runtime.paginate(connection.id, "cursor.list")
    for _ in range(5):
        await anext(found)
    assert len(server.asked) == 1
    await anext(found)
    assert len(server.asked) == 2
    await found.aclose()


@pytest.mark.parametrize("style", ["link", "next_url", "cursor", "graph"])
async def test_a_cycle_of_pages_is_refused_and_not_only_a_repeated_one(runtime, connection, server, style):
    server.wrong = "loop"
    with pytest.raises(ResponseInvalid, match="never end"):
        await asyncio.wait_for(ids(runtime.paginate(connection.id, f"{style}.list")), 10)
    assert len(server.asked) <= 4


async def test_a_provider_that_ignores_the_page_number_is_noticed(runtime, connection, server):
    server.wrong = "ignored"
    with pytest.raises(ResponseInvalid, match="never end"):
        await asyncio.wait_for(ids(runtime.paginate(connection.id, "page.list")), 10)
    assert len(server.asked) == 2


@pytest.mark.parametrize("style", ["link", "next_url"])
async def test_next_page_on_another_host_is_never_asked(runtime, connection, server, style):  # P35
    server.wrong = "host"
    seen = []
    with pytest.raises(EgressDenied, match="own hosts"):  # refused before the egress guard is asked
        async for item in runtime.paginate(connection.id, f"{style}.list"):
            seen.append(item)
    assert (len(seen), len(server.asked)) == (5, 1)


@pytest.mark.parametrize(
    ("style", "wrong", "said"),
    [("cursor", "kind", "no URL or cursor"), ("has_more", "lost", "not where"), ("graph", "lost", "not where"),
     ("page", "kind", "no list")],
)  # fmt: skip
async def test_answer_that_does_not_say_how_to_go_on_is_typed(runtime, connection, server, style, wrong, said):
    server.wrong = wrong
    with pytest.raises(ResponseInvalid, match=said):
        await ids(runtime.paginate(connection.id, f"{style}.list"))


async def test_record_that_lacks_what_its_style_needs_is_refused_before_anything_is_sent(runtime, connection, server):
    with pytest.raises(BadInput, match="no next"):
        await anext(runtime.paginate(connection.id, "broken.list"))
    with pytest.raises(BadInput, match="Use execute"):
        await anext(runtime.pages(connection.id, "one.get"))
    assert server.asked == []


async def test_deadline_is_for_each_page(runtime, connection, server):
    server.delay = 0.05
    assert len(await ids(runtime.paginate(connection.id, "cursor.list", deadline=5))) == TOTAL
    server.delay = 5
    with pytest.raises(RequestTimeout):
        await anext(runtime.paginate(connection.id, "cursor.list", deadline=0.1))


async def test_deadline_of_a_page_includes_loading_the_connection(runtime, connection):
    async def never(sealed, binding):
        await asyncio.Event().wait()

    runtime._core.forget(connection.id)
    found = runtime.paginate(connection.id, "cursor.list", deadline=0.5)
    opened = runtime._core.sealer
    await runtime.can(connection.id, "one.read")
    items = [await anext(found) for _ in range(5)]
    runtime._core.forget(connection.id)
    runtime._core.sealer = type("Slow", (), {"open": staticmethod(never)})()
    with pytest.raises(RequestTimeout):
        await asyncio.wait_for(anext(found), 5)
    runtime._core.sealer = opened
    assert len(items) == 5


async def test_every_page_is_permitted_and_observed(app, server, lists_app):
    observed = []
    async with lists_app() as runtime:
        connection = await connect(runtime)
        runtime.observe(observed.append, name="watch", inline=True)
        found = runtime.paginate(connection.id, "cursor.list")
        for _ in range(6):
            await anext(found)
        ends = [one for one in observed if one.name == "operation" and one.detail["operation"] == "cursor.list"]
        assert len([one for one in ends if one.duration_ms is not None]) == 2
        loaded = runtime._core.cache[connection.id]
        from go_services_core import Capability

        spec = evolve(loaded.instance.spec, capabilities=Capability("more", grants="x"))
        loaded.instance = evolve(loaded.instance, spec=spec)
        plan = runtime._core.plans["lists", "cursor.list"]
        runtime._core.plans["lists", "cursor.list"] = evolve(plan, operation=evolve(plan.operation, capability="more"))
        loaded.decisions["more"] = evolve(await runtime.can(connection.id, "more"), allowed=False, mode="degraded")
        with pytest.raises(PermissionDenied):  # weakness 37: only what is allowed is executed, whatever the mode says
            await anext(runtime.paginate(connection.id, "cursor.list"))
        await found.aclose()


# --- resume tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("limit", [None, 3, 5])
async def test_pages_go_on_from_their_token_in_another_runtime(lists_app, server, style, limit):
    seen, resume, rounds = [], None, 0
    while True:
        async with lists_app() as runtime:
            if not rounds:
                connection = await connect(runtime)
            found = runtime.pages(connection.id, f"{style}.list", limit=limit, max_pages=2, resume=resume)
            pages = [page async for page in found]
        seen += [item["id"] for page in pages for item in page.items]
        assert [page.number for page in pages] == list(range(1, len(pages) + 1))
        rounds += 1
        resume = pages[-1].resume
        if resume is None:
            break
        assert rounds < 20
    assert seen == list(range(TOTAL))
    assert rounds > 2


async def test_token_resumes_items_too_and_in_another_process(lists_app, server, connection, runtime, app, tmp_path):
    first = await anext(runtime.pages(connection.id, "next_url.list"))
    assert "hidden-in-a-url" not in first.resume
    assert first.resume not in repr(first)
    assert await ids(runtime.paginate(connection.id, "next_url.list", resume=first.resume)) == list(range(5, TOTAL))
    script = tmp_path / "other.py"
    given = {
        "store.url": app.settings["store.url"],
        "secrets.appkey.key": app.key.reveal(),
        "runtime.allow_plaintext_secrets": True,
        "egress.allow.lists": [server.url.removeprefix("http://")],
    }
    script.write_text(
        dedent(f"""
        import asyncio, json, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import go_services_secrets_appkey.plugin as appkey, go_services_store_sqlite.plugin as sqlite
        import go_services_transport_http.plugin as http
        from list_server import Lists
        from go_services_core import Runtime
        from go_services_core.config import Config
        from go_services_core.plugins import PluginManager

        async def main():
            server = Lists()
            server.url = {server.url!r}
            plugins = PluginManager.of({{"appkey": appkey, "sqlite": sqlite, "http": http, "lists": server}})
            config = Config.load(None, environ={{}}, arguments={given!r})
            async with Runtime.open(config, plugins=plugins) as runtime:
                found = runtime.paginate({connection.id!r}, "next_url.list", resume=sys.stdin.read())
                print(json.dumps([item["id"] async for item in found]))

        asyncio.run(main())
        """)
    )
    done = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(done.communicate(first.resume.encode()), 60)
    assert done.returncode == 0, err.decode()
    assert json.loads(out) == list(range(5, TOTAL))


async def test_token_belongs_to_its_connection_operation_and_parameters(runtime, connection, server):
    token = (await anext(runtime.pages(connection.id, "cursor.list", {"q": "a"}))).resume
    other = await connect(runtime, "u2")
    asked = len(server.asked)
    for where, operation, params in (
        (other.id, "cursor.list", {"q": "a"}),
        (connection.id, "cursor.list", {"q": "b"}),
        (connection.id, "next_url.list", {}),
    ):
        with pytest.raises(BadInput) as refused:
            await anext(runtime.paginate(where, operation, params, resume=token))
        assert refused.value.field == "resume"
        assert token not in str(refused.value)
    assert len(server.asked) == asked
    assert len(await ids(runtime.paginate(connection.id, "cursor.list", {"q": "a"}, resume=token))) == TOTAL - 5


async def test_token_that_was_changed_or_made_up_is_refused(runtime, connection, server):
    token = (await anext(runtime.pages(connection.id, "cursor.list"))).resume
    form, key, sealed = token.split(".")
    adopted = "WyIiLCAiIiwgMF0"  # a key without a backend: the format of the Go system, which binds to nothing
    changed = sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:]
    for wrong in (
        "",
        "x",
        f"gsp9.{key}.{sealed}",
        f"{form}.{key}.{changed}",
        f"{form}.{adopted}.{sealed}",
        f"{form}.é.é",
    ):
        with pytest.raises(BadInput, match="no token"):
            await anext(runtime.paginate(connection.id, "cursor.list", resume=wrong))
    assert len(server.asked) == 1
    assert KEY not in token


async def test_callers_get_the_part_of_an_answer_that_the_record_names(runtime, connection):
    assert (await runtime.execute(connection.id, "one.get", {"id": "3"})).data == {"id": 3, "name": "item 3"}
    with pytest.raises(ResponseInvalid, match="nothing at"):
        await runtime.execute(connection.id, "one.none", {"id": "3"})
