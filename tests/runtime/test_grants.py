"""Whether a connection may use a capability."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth_specs import ApiKey, ClientCredentials
from go_services_core.runtime.grants import decide, tells_grants, with_implied
from go_services_core.specs import Capability

IMPLIES = {"admin": ("write",), "write": ("read", "list"), "a": ("b",), "b": ("a",), "self": ("self",)}


@pytest.mark.parametrize(
    ("granted", "held"),
    [
        ((), set()),
        (("read",), {"read"}),
        (("write",), {"write", "read", "list"}),
        (("admin",), {"admin", "write", "read", "list"}),
        (("a",), {"a", "b"}),
        (("b", "self"), {"a", "b", "self"}),
        (("unknown",), {"unknown"}),
    ],
)
def test_a_grant_includes_the_narrower_ones_to_the_end_and_around_circles(granted: Any, held: set[str]) -> None:
    assert with_implied(granted, IMPLIES) == held


BLOCK = Capability("items.edit", grants=("read", "write"), optional=("list", "notify"))
DEGRADE = Capability("items.edit", grants=("read", "write"), optional=("list", "notify"), denied="degrade")


@pytest.mark.parametrize(
    ("capability", "granted", "allowed", "mode", "missing"),
    [
        (BLOCK, ("read", "write", "list", "notify"), True, "full", ()),
        (BLOCK, ("read", "write"), True, "full", ()),
        (BLOCK, ("read",), False, "blocked", ("write",)),
        (BLOCK, ("list", "notify"), False, "blocked", ("read", "write")),
        (BLOCK, (), False, "blocked", ("read", "write")),
        (DEGRADE, ("read", "write", "list", "notify"), True, "full", ()),
        (DEGRADE, ("read", "write", "list"), True, "degraded", ("notify",)),
        (DEGRADE, ("read", "write"), True, "degraded", ("list", "notify")),
        (DEGRADE, ("write", "list", "notify"), False, "blocked", ("read",)),
        (DEGRADE, (), False, "blocked", ("read", "write")),
        (Capability("items.list"), (), True, "full", ()),
        (Capability("items.list", optional=("list",), denied="degrade"), (), True, "degraded", ("list",)),
    ],
)
def test_required_grants_block_and_optional_ones_degrade(
    capability: Capability, granted: Any, allowed: bool, mode: str, missing: Any
) -> None:
    decision = decide(capability, granted, {}, tells=True)
    assert (decision.allowed, decision.mode, decision.missing) == (allowed, mode, missing)
    assert decision.capability == capability.name
    assert all(grant in decision.reason for grant in missing)


def test_implied_grants_count() -> None:
    assert decide(BLOCK, ("admin",), IMPLIES, tells=True).mode == "full"
    assert decide(DEGRADE, ("write",), IMPLIES, tells=True).missing == ("notify",)
    assert decide(BLOCK, ("read",), IMPLIES, tells=True).missing == ("write",)


def test_a_record_that_has_no_way_to_tell_grants_leaves_the_decision_to_the_provider() -> None:
    decision = decide(BLOCK, None, {}, tells=False)
    assert (decision.allowed, decision.mode, decision.missing) == (True, "full", ())
    assert "does not tell" in decision.reason


def test_grants_that_a_record_tells_and_that_are_not_known_block() -> None:
    """Fail closed: an answer that ought to have said what was granted, and did not, grants nothing."""
    decision = decide(BLOCK, None, {}, tells=True)
    assert (decision.allowed, decision.mode, decision.missing) == (False, "blocked", ("read", "write"))
    assert "did not say" in decision.reason
    assert decide(Capability("items.list"), None, {}, tells=True).mode == "full"


def test_oauth_records_tell_grants_unless_they_say_that_they_do_not_and_keys_have_no_way_to() -> None:
    oauth = ClientCredentials(token_url="https://provider.example/token")
    assert tells_grants(oauth)
    assert not tells_grants(evolve(oauth, tells_grants=False))
    assert not tells_grants(ApiKey())
    assert not tells_grants(None)


NAMES = st.sampled_from("abcdef")


@given(
    granted=st.lists(NAMES),
    more=st.lists(NAMES),
    implies=st.dictionaries(NAMES, st.lists(NAMES).map(tuple)),
    capability=st.builds(
        Capability,
        st.just("x"),
        grants=st.lists(NAMES).map(tuple),
        optional=st.lists(NAMES).map(tuple),
        denied=st.sampled_from(["block", "degrade"]),
    ),
)
def test_more_grants_never_allow_less(
    granted: list[str], more: list[str], implies: Any, capability: Capability
) -> None:
    rank = {"blocked": 0, "degraded": 1, "full": 2}
    before = decide(capability, tuple(granted), implies, tells=True)
    after = decide(capability, (*granted, *more), implies, tells=True)
    assert rank[after.mode] >= rank[before.mode]
    assert set(after.missing) <= set(before.missing) or before.mode == "blocked"
    assert before.allowed == (before.mode != "blocked")
    assert with_implied(with_implied(granted, implies), implies) == with_implied(granted, implies)
