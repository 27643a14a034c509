"""Structured fields (RFC 9651), beside another implementation of them (http-sf)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from go_services_core.signing.structured_fields import (
    Item,
    parse_dictionary,
    parse_item,
    parse_list,
    write_bare,
    write_dictionary,
    write_item,
    write_list,
)

KINDS: dict[str, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    "dictionary": (parse_dictionary, write_dictionary),
    "list": (parse_list, write_list),
    "item": (parse_item, write_item),
}
PIECES = st.sampled_from(
    ["a", "b", "*c-1.d", "=", "=", ";", ",", " ", "\t", "(", ")", "1", "-1", "1.50", "-0.125", "?1", "?0", '"x y"',
     '"\\"\\\\"', ":aGk=:", "tok/en:*", "1234567890123456", "1.", "1.2345", '"', ":", "ä", "A"]
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.lists(PIECES, max_size=10).map("".join))
@example('a=1, b;x=?0;y="q", c=(1 tok "s";p=:aGk=:);z=2.5, a=3')
@example("(a b);x, (), 1")
@example("a=1,")
@example("(a  b )")
@example("")
@example("a;b;b=2;c")
def test_read_and_written_as_by_another_implementation(kind: str, text: str) -> None:
    read, write = KINDS[kind]
    try:
        expected = http_sf.ser(http_sf.parse(text.encode(), tltype=kind)) if text.strip(" ") or kind == "item" else ""
    except (ValueError, UnicodeError):
        with pytest.raises(ValueError, match=r"structured field|base64|padding|data|number"):
            read(text)
        return
    assert write(read(text)) == expected


def test_value_that_no_field_can_hold_is_refused() -> None:
    for text in ("a\nb", "ä", "\x7f"):
        with pytest.raises(ValueError, match="printable"):
            write_bare(text)
    assert write_item(Item((Item(True), Item(1.0)))) == "(?1 1.0)"
