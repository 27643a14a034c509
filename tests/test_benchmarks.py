"""The benchmarks' arithmetic and their output; speed itself is measured by ``make bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.run import BENCHMARKS

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {
    "name", "kind", "better", "unit", "ours", "peer", "peer_name", "samples", "peer_samples", "target", "ok"
}  # fmt: skip


@pytest.mark.parametrize(
    ("better", "target", "ok"),
    [("higher", 2.0, True), ("higher", 2.1, False), ("lower", 2.0, True), ("lower", 1.9, False)],
)
def test_ratio_is_of_medians(better: str, target: float, ok: bool) -> None:
    result = harness.ratio(
        "x", better=better, unit="ms", samples=[1, 10, 90], peer_samples=[4, 5, 600], peer_name="p", target=target
    )
    assert (result.ours, result.peer, result.value, result.ok) == (10, 5, 2, ok)


def test_cost_over_a_peer_is_a_difference() -> None:
    result = harness.over("x", unit="µs", samples=[30, 40, 50], peer_samples=[10, 10, 10], peer_name="p", target=29)
    assert (result.kind, result.value, result.ok) == ("absolute", 30, False)


def test_sides_alternate_and_there_are_at_least_five_pairs() -> None:
    order: list[str] = []
    ours, peer = harness.alternate(lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0)  # type: ignore[func-returns-value]
    assert order[:6] == ["a", "b", "b", "a", "a", "b"]
    assert (len(ours), len(peer)) == (harness.PAIRS, harness.PAIRS)
    assert harness.PAIRS >= 5


def test_one_benchmark_writes_its_table_and_results() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--only", "import-spec"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "import-spec" in done.stdout
    (result,) = json.loads(harness.OUT.read_text())
    assert set(result) == FIELDS
    assert result["kind"] in ("ratio", "absolute")


def test_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--only", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert all(name in done.stderr for name in BENCHMARKS)
