"""Results, alternating pairs and the table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

from attrs import asdict, frozen

OUT = Path(__file__).parent / "out" / "results.json"
PAIRS = 15


@frozen(kw_only=True)
class Result:
    """One measurement. ``ours`` and ``peer`` are medians in ``unit``; a ``ratio`` is ours / peer, except that for
    ``better="higher"`` both are rates and for ``"lower"`` both are times."""

    name: str
    kind: Literal["ratio", "absolute"]
    better: Literal["higher", "lower"]
    unit: str
    ours: float
    peer: float | None
    peer_name: str
    samples: Sequence[float]
    peer_samples: Sequence[float]
    target: float
    ok: bool

    @property
    def value(self) -> float:
        """What is held against the target."""
        return self.ours if self.kind == "absolute" or self.peer is None else self.ours / self.peer


def ratio(
    name: str,
    *,
    better: Literal["higher", "lower"],
    unit: str,
    samples: Sequence[float],
    peer_samples: Sequence[float],
    peer_name: str,
    target: float,
) -> Result:
    """A result that compares two medians."""
    ours, peer = statistics.median(samples), statistics.median(peer_samples)
    value = ours / peer
    return Result(
        name=name,
        kind="ratio",
        better=better,
        unit=unit,
        ours=ours,
        peer=peer,
        peer_name=peer_name,
        samples=list(samples),
        peer_samples=list(peer_samples),
        target=target,
        ok=value >= target if better == "higher" else value <= target,
    )


def over(
    name: str, *, unit: str, samples: Sequence[float], peer_samples: Sequence[float], peer_name: str, target: float
) -> Result:
    """A result that is the difference of two medians: what ours costs over the peer."""
    difference = statistics.median(samples) - statistics.median(peer_samples)
    return Result(
        name=name,
        kind="absolute",
        better="lower",
        unit=unit,
        ours=difference,
        peer=statistics.median(peer_samples),
        peer_name=f"over {peer_name}",
        samples=list(samples),
        peer_samples=list(peer_samples),
        target=target,
        ok=difference <= target,
    )


def plain(
    name: str,
    *,
    unit: str,
    samples: Sequence[float],
    target: float,
    better: Literal["higher", "lower"] = "lower",
) -> Result:
    """A result without a peer."""
    ours = statistics.median(samples)
    return Result(
        name=name,
        kind="absolute",
        better=better,
        unit=unit,
        ours=ours,
        peer=None,
        peer_name="",
        samples=list(samples),
        peer_samples=[],
        target=target,
        ok=ours >= target if better == "higher" else ours <= target,
    )


def alternate(*sides: Callable[[], float], pairs: int = PAIRS) -> list[list[float]]:
    """Measure the sides in turn, ``pairs`` times, the order reversed every other time."""
    samples: list[list[float]] = [[] for _ in sides]
    for number in range(pairs):
        order = range(len(sides)) if number % 2 == 0 else range(len(sides) - 1, -1, -1)
        for index in order:
            samples[index].append(sides[index]())
    return samples


async def alternate_async(*sides: Callable[[], Awaitable[float]], pairs: int = PAIRS) -> list[list[float]]:
    """``alternate`` for coroutines."""
    samples: list[list[float]] = [[] for _ in sides]
    for number in range(pairs):
        order = range(len(sides)) if number % 2 == 0 else range(len(sides) - 1, -1, -1)
        for index in order:
            samples[index].append(await sides[index]())
    return samples


def table(results: Sequence[Result]) -> str:
    """The results for people."""
    lines = [f"{'benchmark':<34}{'ours':>12}{'peer':>12}  {'unit':<10}{'value':>9}{'target':>10}  ok   peer"]
    for result in results:
        sign = "≥" if result.better == "higher" else "≤"
        peer = f"{result.peer:.2f}" if result.peer is not None else "-"
        mark = "yes" if result.ok else "NO"
        lines.append(
            f"{result.name:<34}{result.ours:>12.2f}{peer:>12}  {result.unit:<10}{result.value:>9.2f}"
            f"{sign + f'{result.target:g}':>10}  {mark:<4} {result.peer_name}"
        )
    return "\n".join(lines)


def save(results: Sequence[Result]) -> None:
    """Write ``benchmarks/out/results.json``."""
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
