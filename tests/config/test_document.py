from __future__ import annotations

import tomllib

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.config.document import join_key, quote, quote_key, scan, split_key

TEXT = '''# a comment with = and [brackets]
title = "top"

[runtime]   # [not.this]
callback_url = "https://a.example/#x"  # a comment
a.b = 1
"quoted key" = 'literal # not a comment'

[providers.acme]
list = [
  "one", # with ] inside a comment
  "two]",
]
table = { x = "}", y = [1, 2] }
long = """
key = "not a key"
[not.a.table]
\\""" still inside """
raw = \'\'\'
it's \\ here\'\'\'\'
date = 1979-05-27 07:32:00

[[providers.acme.operations]]
id = "a"
[[providers.acme.operations]]
id = "b"
  [providers.acme.operations.extra]
  deep = true
'''


def at(tree, path):
    for part in path:
        tree = tree[part]
    return tree


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_value_is_found_with_its_exact_span(newline):
    text = TEXT.replace("\n", newline)
    tree = tomllib.loads(text)
    document = scan(text)
    for entry in document.entries:
        span = text[entry.value_start : entry.value_end]
        assert tomllib.loads(f"v = {span}")["v"] == at(tree, entry.path), entry
    assert [join_key(entry.path) for entry in document.entries] == [
        "title",
        "runtime.callback_url",
        "runtime.a.b",
        'runtime."quoted key"',
        "providers.acme.list",
        "providers.acme.table",
        "providers.acme.long",
        "providers.acme.raw",
        "providers.acme.date",
        "providers.acme.operations[0].id",
        "providers.acme.operations[1].id",
        "providers.acme.operations[1].extra.deep",
    ]


def test_lines_are_those_an_editor_shows():
    lines = scan(TEXT).lines()
    shown = TEXT.splitlines()
    assert shown[lines["runtime",] - 1].startswith("[runtime]")
    assert shown[lines["runtime", "a", "b"] - 1] == "a.b = 1"
    assert shown[lines["providers", "acme", "operations", 1, "id"] - 1] == 'id = "b"'
    assert lines["providers", "acme", "operations"] == lines["providers", "acme", "operations", 0]


keys = st.text(min_size=1, max_size=8)
values = st.recursive(
    st.booleans() | st.integers(-1000, 1000) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


def literal(value) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, str):
        return quote(value)
    return str(value).lower()


@hypothesis.settings(deadline=None)
@given(st.dictionaries(keys, st.dictionaries(keys, values, max_size=4), max_size=4))
def test_whatever_tomllib_reads_is_followed(tree):
    text = "".join(
        f"[{quote_key(name)}]\n" + "".join(f"{quote_key(key)} = {literal(value)} # c\n" for key, value in table.items())
        for name, table in tree.items()
    )
    assert tomllib.loads(text) == tree
    found = {entry.path: text[entry.value_start : entry.value_end] for entry in scan(text).entries}
    assert found == {(name, key): literal(value) for name, table in tree.items() for key, value in table.items()}


@hypothesis.settings(deadline=None)
@given(st.lists(keys, min_size=1, max_size=4))
def test_keys_survive_joining_and_splitting(parts):
    assert split_key(join_key(tuple(parts))) == tuple(parts)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a b", 'a."b', "a..b", "ü"])
def test_text_that_is_no_dotted_key_is_refused(text):
    with pytest.raises(ValueError):
        split_key(text)
