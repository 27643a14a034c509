"""Incremental parsers: however the bytes are cut, the items are the same."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.errors import BodyTooLarge, ResponseInvalid
from go_services_core.streaming.lines import TextLines
from go_services_core.streaming.ndjson import NdjsonReader
from go_services_core.streaming.sse import SseEvent, SseReader


def fed(reader, data: bytes, cuts=()):
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    items = []
    for start, end in itertools.pairwise(places):
        items += reader.feed(data[start:end])
    return items + (reader.end() if hasattr(reader, "end") else [])


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(st.recursive(st.none() | st.integers() | st.text(), st.lists)), CUTS, st.sampled_from(["\n", "\r\n"]))
def test_ndjson_gives_what_was_written_however_it_is_cut(values, cuts, end):
    data = "".join(json.dumps(value, ensure_ascii=False) + end for value in values).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    assert fed(NdjsonReader(10**6), data, cuts) == values


def test_ndjson_passes_over_empty_lines_and_takes_a_last_line_without_end():
    assert fed(NdjsonReader(99), b'1\n\n \r\n{"a": 2}') == [1, {"a": 2}]


def test_ndjson_names_the_line_that_is_none_and_not_what_it_holds():
    with pytest.raises(ResponseInvalid, match="Line 3") as caught:
        fed(NdjsonReader(99), b"1\n2\nsecret\n")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("reader", [NdjsonReader, TextLines, SseReader])
def test_a_line_over_the_limit_is_refused_before_it_is_complete(reader):
    made = reader(100)
    made.feed(b"1" * 100)
    with pytest.raises(BodyTooLarge):
        made.feed(b"1")


def test_lines_are_text():
    assert fed(TextLines(99), "a\r\n\né".encode(), [4]) == ["a", "", "é"]
    with pytest.raises(ResponseInvalid):
        fed(TextLines(99), b"\xff\n")


STREAM = (
    b"\xef\xbb\xbf: a comment\n"
    b"data: first\n"
    b"data:  second\n"
    b"id: 1\n"
    b"\n"
    b"event: add\r\ndata\r\ndata: {}\r\nretry: 1500\r\nid\r\n\r\n"
    b"event: nothing\n\n"
    b"data:no space\rid: 7\r\r"
    b"id: a\0b\ndata: x\nretry: soon\nunknown: y\n\n"
    b"data: never finished\n"
)
EVENTS = [
    SseEvent("first\n second", "message", "1", None),
    SseEvent("\n{}", "add", "", 1.5),
    SseEvent("no space", "message", "7", 1.5),
    SseEvent("x", "message", "7", 1.5),
]


@given(CUTS)
def test_events_follow_the_rules_however_they_are_cut(cuts):
    """WHATWG HTML §9.2.6: BOM, three line ends, comments, several lines of data, ids with NUL, an event cut off."""
    assert fed(SseReader(10**4), STREAM, cuts) == EVENTS


def test_an_id_counts_only_once_its_event_is_complete():
    reader = SseReader(100)
    reader.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert reader.last_id == "1"
    reader.begin()
    assert reader.feed(b"data: c\n\n") == [SseEvent("c", "message", "1")]


def test_an_event_over_the_limit_is_refused_however_short_its_lines_are():
    reader = SseReader(1000)
    with pytest.raises(BodyTooLarge):
        for _ in range(200):
            reader.feed(b"data: 123456\n")


def test_bytes_that_are_not_utf_8_are_replaced_in_events():
    assert fed(SseReader(99), b"data: \xff\n\n") == [SseEvent("\ufffd")]
