"""The Link header."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.runtime.links import next_link

GITHUB = (
    '<https://api.github.com/repositories/1/issues?page=1&a=%2C>; rel="prev", '
    '<https://api.github.com/repositories/1/issues?page=3&a=%2C>; rel="next", '
    '<https://api.github.com/repositories/1/issues?page=9>; rel="last"'
)


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (GITHUB, "https://api.github.com/repositories/1/issues?page=3&a=%2C"),
        # RFC 8288 §3.5
        ('<http://example.com/TheBook/chapter2>; rel="previous"; title="previous chapter"', None),
        ('</>; rel="http://example.net/foo"', None),
        ('</terms>; rel="copyright"; anchor="#foo"', None),
        (
            '</TheBook/chapter2>; rel="previous"; title*=UTF-8\'de\'letztes%20Kapitel, </TheBook/chapter4>; rel="next"',
            "/TheBook/chapter4",
        ),
        ('<http://example.org/>; rel="start http://example.net/relation/other next"', "http://example.org/"),
        # forms
        ("<a>; rel=next", "a"),
        ("<a>;rel=next", "a"),
        ("<a> ; REL = NEXT", "a"),
        ('<a>\t;\trel\t=\t"Next"', "a"),
        ("<a>; rel='next'", None),
        ("<a>;; rel=next;", "a"),
        ('<a>; title="x"; crossorigin; rel=next', "a"),
        ("<a>,<b>; rel=next", "b"),
        (",, <a>; rel=next,,", "a"),
        ("<>; rel=next", ""),
        ("<a,b;c>; rel=next", "a,b;c"),
        # quoted text is not structure
        ('<a>; title="one, <b>; rel=next"; rel="prev"', None),
        ('<a>; title="; rel=next"; rel=prev', None),
        ('<a>; title="\\"; rel=next"; rel=prev', None),
        ('<a>; title="x, y"; rel="next", <b>; rel="last"', "a"),
        # another resource's link, another parameter, another relation
        ('<a>; rel=next; anchor="/other", <b>; rel=next', "b"),
        ("<a>; rel=prev; rel=next", None),
        ("<a>; xrel=next, <b>; rel-x=next", None),
        ("<a>; rel=nextish, <b>; rel=x-next", None),
        ('<a>; rel=""', None),
        ("<a>; rel", None),
        ("<a>", None),
        ("rel=next", None),
        ("a; rel=next", None),
        ("<a; rel=next", None),
        ('<a>; rel="next', None),
        ("", None),
    ],
)
def test_the_target_of_the_next_page_is_found(value: str, target: str | None) -> None:
    assert next_link((("Link", value),)) == target


def test_the_header_may_come_in_any_spelling_and_more_than_once() -> None:
    headers = (
        ("X-Link", "<x>; rel=next"),
        ("link", "<a>; rel=prev"),
        ("LINK", "<b>; rel=next"),
        ("Link", "<c>; rel=next"),
    )
    assert next_link(headers) == "b"
    assert next_link(headers[:2]) is None
    assert next_link(()) is None


PIECES = st.sampled_from(["<", ">", ";", ",", "=", '"', "\\", " ", "rel", "next", "a", "rel=next", '"x"', "anchor"])


@given(st.text() | st.lists(PIECES, max_size=40).map("".join))
def test_no_header_makes_it_fail(value: str) -> None:
    found = next_link((("Link", value),))
    assert found is None or (f"<{found}>" in value and "next" in value.lower())


@given(target=st.text(st.characters(exclude_characters="<>")), title=st.text(st.characters(exclude_characters='"\\')))
def test_what_is_written_by_the_rules_is_read_back(target: str, title: str) -> None:
    value = f'<first>; rel=prev; title="{title}", <{target}>; title="{title}"; rel="next"'
    assert next_link((("Link", value),)) == target


HOSTILE: dict[str, Callable[[int], str]] = {
    "openings": lambda n: "<" * n,
    "targets": lambda n: "<a>" * n,
    "unclosed parameters": lambda n: "<a>" + ";a" * n,
    "semicolons": lambda n: "<a>" + ";" * n,
    "spaces": lambda n: "<a>;" + " " * n,
    "spaces after names": lambda n: "<a>" + ";a  " * n,
    "spaces around equals": lambda n: "<a>;a" + " " * n + "=" + " " * n,
    "open quotes": lambda n: '<a>;a="' * n,
    "backslashes": lambda n: '<a>;a="' + "\\" * n,
    "open quotes with escapes": lambda n: '<a>;a="\\"' * n,
    "long names": lambda n: "<a>;" + "a" * n,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_takes_linear_work(make: Callable[[int], str]) -> None:
    """Half a megabyte: with quadratic work this would be about 10¹¹ steps, which the time limit ends."""
    assert next_link((("Link", make(500_000)),)) is None
