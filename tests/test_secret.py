"""Secrets show nothing, wherever they turn up."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from attrs import asdict, evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.secret import MASK, SecretBytes, SecretStr

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

VALUE = "hunter2-hunter2"
SECRETS = [SecretStr(VALUE), SecretBytes(VALUE.encode())]
each_secret = pytest.mark.parametrize("secret", SECRETS, ids=["SecretStr", "SecretBytes"])


@frozen
class Holder:
    secret: Any


SHOW: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": lambda secret: f"{secret}",
    "format with a width": lambda secret: f"{secret:>40}",
    "format with a conversion": lambda secret: f"{secret!r} {secret!s}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "str.format": lambda secret: "{0} {0!r}".format(secret),  # noqa: UP032
    "in a list": lambda secret: repr([secret]),
    "in a dictionary": lambda secret: repr({"a": secret, secret: 1}),
    "in a record": lambda secret: repr(Holder(secret)),
    "in a record as a dictionary": lambda secret: repr(asdict(Holder(secret))),
    "pprint": lambda secret: pprint.pformat({"a": [secret]}, width=1),
    "json with default=str": lambda secret: json.dumps(secret, default=str),
    "dir": lambda secret: repr(dir(secret)),
    "in an exception": lambda secret: repr(ValueError(secret)) + str(ValueError(secret)),
}


@each_secret
@pytest.mark.parametrize("show", SHOW.values(), ids=SHOW)
def test_no_form_of_text_shows_the_value(secret: Any, show: Callable[[Any], str]) -> None:  # P41
    assert VALUE not in show(secret)


@each_secret
def test_it_shows_that_there_is_a_secret(secret: Any) -> None:
    assert str(secret) == MASK
    assert MASK in repr(secret)
    assert type(secret).__name__ in repr(secret)


def test_a_mask_does_not_tell_the_length() -> None:  # P43
    assert str(SecretStr("a")) == str(SecretStr("a" * 1000)) == str(SecretStr(""))


@each_secret
def test_json_and_pickle_refuse_it(secret: Any) -> None:  # P41
    with pytest.raises(TypeError) as caught:
        json.dumps({"secret": secret})
    assert VALUE not in str(caught.value)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for holder in (secret, [secret], Holder(secret)):
            with pytest.raises(TypeError) as caught:
                pickle.dumps(holder, protocol)
            assert VALUE not in str(caught.value)


@each_secret
def test_copies_stay_secrets(secret: Any) -> None:
    for copied in (copy.copy(secret), copy.deepcopy(secret), copy.deepcopy([secret])[0], evolve(Holder(secret)).secret):
        assert copied.reveal() == secret.reveal()
        assert VALUE not in repr(copied)


@each_secret
def test_a_traceback_with_locals_does_not_show_it(secret: Any) -> None:  # P41
    def fail(token: Any) -> None:
        held = {"token": token}
        raise RuntimeError(f"failed with {held}")

    try:
        fail(secret)
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert "held = " in shown
        assert VALUE not in shown
    else:
        raise AssertionError


@each_secret
def test_a_log_record_does_not_show_it(secret: Any, caplog: pytest.LogCaptureFixture) -> None:  # P40
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("token %s of %r", secret, {"a": secret}, extra={"secret": secret})
    assert MASK in caplog.text
    assert VALUE not in caplog.text
    assert VALUE not in repr(caplog.records[0].__dict__)


@each_secret
def test_it_has_no_attributes_to_show(secret: Any) -> None:
    assert not hasattr(secret, "__dict__")
    with pytest.raises(AttributeError):
        secret.note = "x"


@each_secret
def test_it_does_not_behave_like_its_value(secret: Any) -> None:
    for use in (len, iter, lambda value: value + value, lambda value: value[0], lambda value: value < value):
        with pytest.raises(TypeError):
            use(secret)
    assert secret != secret.reveal()
    assert secret != VALUE


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (SecretStr, VALUE.encode()),
        (SecretStr, 7),
        (SecretStr, None),
        (SecretBytes, VALUE),
        (SecretBytes, bytearray(b"x")),
    ],
)
def test_another_type_is_refused_without_showing_it(kind: Any, value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        kind(value)
    assert VALUE not in str(caught.value)


def test_secrets_compare_by_value_and_kind() -> None:
    assert SecretStr("a\ud800") == SecretStr("a\ud800")
    assert SecretStr("a\ud800") != SecretStr("a\udfff")
    assert SecretStr("a") == SecretStr("a")
    assert SecretStr("a") != SecretStr("b")
    assert SecretStr("a") != SecretBytes(b"a")
    assert SecretBytes(b"a") == SecretBytes(b"a")
    assert {SecretStr("a"), SecretStr("a"), SecretBytes(b"a")} == {SecretBytes(b"a"), SecretStr("a")}


@given(mine=st.text(ANY), theirs=st.text(ANY))
def test_equality_is_that_of_the_values_for_any_text(mine: str, theirs: str) -> None:
    assert (SecretStr(mine) == SecretStr(theirs)) == (mine == theirs)
    assert SecretStr(mine) == SecretStr(mine)
    assert bool(SecretStr(mine)) == bool(mine)
    assert SecretStr(mine).reveal() == mine


@given(value=st.binary())
def test_bytes_are_revealed_as_they_were_given(value: bytes) -> None:
    assert SecretBytes(value).reveal() == value
    assert bool(SecretBytes(value)) == bool(value)
