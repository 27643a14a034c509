"""Changing the keys of what is stored: ``rewrap`` has the backend wrap data keys anew, ``reencrypt`` seals anew.

Both go by what the store says of each row's key, and keep no state: killed at any point, the next run does what is
left. A row is replaced only if it is still the one that was read, so that readers and writers need not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal, TypeAlias, TypeVar, get_args

from attrs import Factory, define, field

from ..errors import BackendUnavailable, BadInput, FacetMissing, SecretError, ServicesError
from ..facets import SealedFacet
from ..model import KeyRef, Observation
from ..secret import SecretBytes
from ..wrapping_keys import KeyUse, Resealed, RotatedKind, RotationReport, SealedKind, SealedRow, Unreadable
from . import bindings, keycheck
from .core import Core
from .payload import CREDENTIAL_FORMAT, CREDENTIAL_VERSION, is_current, to_current
from .secret_state import UNREADABLE, mark_unreadable

T = TypeVar("T")
Action = Literal["rewrap", "reencrypt"]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the rows that were gone through, and how many there are as far as is known."""
After: TypeAlias = Callable[[int, int], Awaitable[None]]

BATCH: Final = 100
MAX_BATCH: Final = 1000
PASSES: Final = 3
"""Times that rows are looked for: those that somebody changed meanwhile are met again in the next pass."""
NAMED: Final = 100
"""Unreadable rows that a report names."""


async def rotate(
    core: Core,
    action: Action,
    *,
    all: bool = False,
    dry_run: bool = False,
    verify: bool = False,
    batch: int = BATCH,
    rate: float | None = None,
    after: After | None = None,
    wanted: Callable[[KeyRef, KeyRef], bool] | None = None,
) -> RotationReport:
    """Bring sealed values under the primary key; see ``Runtime.rewrap`` and ``Runtime.reencrypt``.

    Args:
        core: the runtime's parts.
        action: what is done to a row.
        all: also to rows that are under the primary key.
        dry_run: count only.
        verify: open every row in the end.
        batch: rows read and replaced at once.
        rate: rows a second at most.
        after: awaited after each batch.
        wanted: of a row's key and the primary key, whether to take the row; instead of ``all``.
    """
    if not 1 <= batch <= MAX_BATCH:
        raise BadInput(f"A batch has 1 to {MAX_BATCH} rows, not {batch}.", field="batch")
    if rate is not None and not rate > 0:
        raise BadInput(f"A rate is above 0 rows a second, not {rate:g}.", field="rate")
    facet = sealed_facet(core)
    primary = await core.backend.check()

    def chosen(key: KeyRef) -> bool:
        if wanted is not None:
            return wanted(key, primary)
        return (bool(key.backend) or action == "reencrypt") and (all or key != primary)

    run = _Run(
        core=core, facet=facet, action=action, primary=primary, wanted=chosen, batch=batch, rate=rate, after=after
    )
    return await (run.plan() if dry_run else run.execute(verify=verify))


def sealed_facet(core: Core) -> SealedFacet:
    """The store's facet of sealed values.

    Raises:
        FacetMissing: it has none.
    """
    facet: SealedFacet | None = getattr(core.store, "sealed", None)
    if facet is None:
        raise FacetMissing(
            f"The store {type(core.store).__name__} does not list its sealed values (`sealed`).",
            hint="Keys can be changed with a store that has this facet.",
        )
    return facet


@define
class _Tally:
    done: int = 0
    unchanged: int = 0
    adopted: int = 0
    verified: int = 0
    lost: set[str] = Factory(set)
    unreadable: dict[str, KeyRef] = Factory(dict)

    def report(self, kind: SealedKind) -> RotatedKind:
        return RotatedKind(
            kind=kind,
            done=self.done,
            unchanged=self.unchanged,
            left_alone=len(self.lost),
            adopted=self.adopted,
            unreadable=len(self.unreadable),
            verified=self.verified,
        )


@define(kw_only=True)
class _Run:
    core: Core
    facet: SealedFacet
    action: Action
    primary: KeyRef
    wanted: Callable[[KeyRef], bool]
    batch: int
    rate: float | None
    after: After | None
    to_change: int = 0
    total: int = 0
    """Of what is changed, and of what is opened in the end."""
    gone_through: int = 0
    began: float = 0.0
    tallies: dict[SealedKind, _Tally] = field(factory=lambda: {kind: _Tally() for kind in get_args(SealedKind)})
    unreadable: list[Unreadable] = Factory(list)

    async def plan(self) -> RotationReport:
        for use in await self.facet.keys():
            tally = self.tallies[use.kind]
            if self.wanted(use.key):
                tally.done += use.rows
            elif use.key.backend:
                tally.unchanged += use.rows
            else:
                tally.adopted += use.rows
        return self._report(dry_run=True)

    async def execute(self, *, verify: bool) -> RotationReport:
        self.began = self.core.clock.monotonic()
        try:
            report = await self._execute(verify)
        except SecretError as error:
            changed = min(self.gone_through, self.to_change)
            hint = f"{error.hint} " if error.hint else ""
            raise type(error)(
                f"The {self.action} ended after {changed} of {self.to_change} rows: {error.message}",
                hint=f"{hint}Nothing is lost: run it again, and it goes on with what is left.",
                plugin=error.plugin,
                field=error.field,
                metadata={**error.metadata, "rows": changed, "total": self.to_change},
            ) from error
        self.core.observe(
            Observation(
                name="secrets.rotation",
                at=self.core.clock.now(),
                ok=report.complete,
                duration_ms=(self.core.clock.monotonic() - self.began) * 1000,
                detail={"action": self.action, "rows": sum(kind.done for kind in report.kinds)},
            )
        )
        return report

    async def _execute(self, verify: bool) -> RotationReport:
        self.core.sealer.forget()  # what is sealed from now on has a data key of its own, under the primary key
        uses = list(await self.facet.keys())
        chosen = [use for use in uses if self.wanted(use.key)]
        for use in uses:
            if use not in chosen and use.key.backend:
                self.tallies[use.kind].unchanged += use.rows
        self.total = self.to_change = sum(use.rows for use in chosen)
        if verify:
            self.total += sum(use.rows for use in uses if use.key.backend or use in chosen)
        # Rows that are under the primary key come first: later ones would be met again there.
        for use in sorted(chosen, key=lambda use: use.key != self.primary):
            await self._each(use.kind, use.key, self._change)
        for _ in range(PASSES - 1):
            again = [use for use in await self.facet.keys() if self._is_left(use)]
            if not again:
                break
            for use in again:
                await self._each(use.kind, use.key, self._change)
        await keycheck.renew(self.core.store, self.core.sealer, self.primary)
        if verify:
            for kind in self.tallies:
                await self._each(kind, self.primary, self._open)
        remaining = 0
        for use in await self.facet.keys():
            if not use.key.backend and self.action == "rewrap":
                self.tallies[use.kind].adopted += use.rows
            elif self._is_left(use):
                remaining += use.rows
        keys = [key for tally in self.tallies.values() for key in tally.unreadable.values()]
        return self._report(remaining=max(0, remaining - sum(key != self.primary for key in keys)))

    def _is_left(self, use: KeyUse) -> bool:
        return use.key != self.primary and self.wanted(use.key)

    def _report(self, *, dry_run: bool = False, remaining: int = 0) -> RotationReport:
        return RotationReport(
            action=self.action,
            key=self.primary,
            dry_run=dry_run,
            kinds=tuple(tally.report(kind) for kind, tally in self.tallies.items()),
            remaining=remaining,
            unreadable=tuple(self.unreadable),
        )

    async def _each(
        self, kind: SealedKind, key: KeyRef, step: Callable[[Sequence[SealedRow]], Awaitable[None]]
    ) -> None:
        """Every row of one kind and key, a batch at a time, without those that were found unreadable."""
        known = self.tallies[kind].unreadable
        position: str | None = None
        while True:
            page = await self.facet.page(kind, key=key, after=position, limit=self.batch)
            rows = [row for row in page.items if row.id not in known]
            if rows:
                await step(rows)
                self.gone_through += len(rows)
                self.total = max(self.total, self.gone_through)
                if self.after is not None:
                    await self.after(self.gone_through, self.total)
                await self._pace()
            position = page.next
            if position is None:
                return

    async def _pace(self) -> None:
        if self.rate is not None:
            ahead = self.began + self.gone_through / self.rate - self.core.clock.monotonic()
            if ahead > 0:
                await self.core.clock.sleep(ahead)

    async def _change(self, rows: Sequence[SealedRow]) -> None:
        tally = self.tallies[rows[0].kind]
        answers = await (self._rewrapped(rows) if self.action == "rewrap" else self._reencrypted(rows))
        values = [answer for answer in answers if isinstance(answer, Resealed)]
        failed = [(row, answer) for row, answer in zip(rows, answers, strict=True) if isinstance(answer, SecretError)]
        lost = set(await self.facet.replace(values)) if values else set()
        done = {value.row.id for value in values} - lost
        tally.done += len(done)
        tally.lost = (tally.lost | lost) - done
        for row, error in failed:
            if not isinstance(error, UNREADABLE):
                raise error
            await self._note(row, error)

    async def _rewrapped(self, rows: Sequence[SealedRow]) -> list[Resealed | SecretError]:
        answers = await self.core.sealer.rewrap(rows)
        return [
            answer if isinstance(answer, SecretError) else Resealed(row=row, sealed=answer)
            for row, answer in zip(rows, answers, strict=True)
        ]

    async def _reencrypted(self, rows: Sequence[SealedRow]) -> list[Resealed | SecretError]:
        return await _all(self._reseal(row) for row in rows)

    async def _reseal(self, row: SealedRow) -> Resealed | SecretError:
        binding = bindings.binding_of(row)
        try:
            plaintext, format, version = _payload(row, await self.core.sealer.open(row.sealed, binding))
        except UNREADABLE as error:
            return error
        try:
            sealed = await self.core.sealer.seal(plaintext, binding)
        finally:
            del plaintext  # or a traceback with locals shows it
        if sealed.key.backend != self.primary.backend:
            raise BackendUnavailable(f"The secret backend {self.primary.backend!r} does not answer; a stand-in did.")
        return Resealed(row=row, sealed=sealed, payload_format=format, payload_version=version)

    async def _open(self, rows: Sequence[SealedRow]) -> None:
        tally = self.tallies[rows[0].kind]
        for row, error in zip(rows, await _all(self._try(row) for row in rows), strict=True):
            if error is None:
                tally.verified += 1
            else:
                await self._note(row, error)

    async def _try(self, row: SealedRow) -> SecretError | None:
        try:
            await self.core.sealer.open(row.sealed, bindings.binding_of(row))
        except UNREADABLE as error:
            return error
        return None

    async def _note(self, row: SealedRow, error: SecretError) -> None:
        """Count a row that cannot be read, and mark the connection whose active credential it is."""
        self.tallies[row.kind].unreadable[row.id] = row.sealed.key
        if len(self.unreadable) < NAMED:
            self.unreadable.append(
                Unreadable(
                    kind=row.kind,
                    id=row.id,
                    connection_id=row.connection_id,
                    key=row.sealed.key,
                    error=error.message,
                )
            )
        if row.kind == "credential" and row.connection_id is not None:
            try:
                connection, active = await self.core.store.connections.load(row.connection_id)
            except ServicesError:
                return  # deleted meanwhile
            if active is not None and (active.id, active.sealed) == (row.id, row.sealed):
                await mark_unreadable(self.core, connection, row.sealed.key, error)


def _payload(row: SealedRow, opened: SecretBytes) -> tuple[bytes, str, int]:
    """What to seal in the place of ``row``, and its format: empty where that stays as it is."""
    if row.kind != "credential" or is_current(row):
        return opened.reveal(), "", 1
    return to_current(opened, row), CREDENTIAL_FORMAT, CREDENTIAL_VERSION


async def _all(steps: Iterable[Awaitable[T]]) -> list[T]:
    """Every result, or the first error of the backend once all have ended."""

    async def outcome(step: Awaitable[T]) -> tuple[list[T], SecretError | None]:
        try:
            return [await step], None
        except SecretError as error:
            return [], error

    found: list[T] = []
    for result, error in await asyncio.gather(*map(outcome, steps)):
        if error is not None:
            raise error
        found += result
    return found
