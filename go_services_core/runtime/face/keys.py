"""The wrapping keys and their change."""

from __future__ import annotations

from ...model import KeyRef
from ...wrapping_keys import KeyInfo, KeyStatus, RotationReport
from .. import keys as _keys
from .. import rotation as _rotation
from ..core import Core
from ..rotation import Progress


class Keys:
    """Wrapping keys, and what is sealed under them."""

    _core: Core

    async def key_status(self, *, count: bool = True) -> KeyStatus:
        """The secret backend's wrapping keys, the rows that need each, and what cannot be opened.

        It answers also while the backend does not; ``problem`` then says why.

        Args:
            count: count rows, which reads every table with sealed values.
        """
        return await _keys.status(self._core, count=count)

    async def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        """Make a new wrapping key that only unwraps for now, so that every process knows it before one wraps with it.

        Raises:
            CapabilityUnsupported: the backend's keys are made elsewhere; the hint says where.
        """
        return await _keys.add(self._core, dry_run=dry_run)

    async def rotate_key(self, to: str | None = None, *, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        """Make the key ``to``, or the newest, primary; gives the primary key before and after.

        This process uses it at once. Others seal with data keys under the former one for up to five minutes more.

        Raises:
            KeyNotFound: there is no such key, or none to change to.
            CapabilityUnsupported: the backend's keys are changed elsewhere; the hint says where.
        """
        return await _keys.rotate(self._core, to, dry_run=dry_run)

    async def retire_key(self, key_id: str, version: int | None = None, *, dry_run: bool = False) -> str:
        """Let a wrapping key be used no more; gives what was done.

        Wait until every process has used the new primary key for five minutes, and rewrap once more before.

        Args:
            key_id: the key.
            version: needed where the backend has several of that id.
            dry_run: change nothing.

        Raises:
            Conflict: it is the primary key, or in use: the message has the number of rows, and so has ``metadata``.
            KeyNotFound: the backend has no such key.
            BadInput: several versions have that id.
            CapabilityUnsupported: the backend's keys are changed elsewhere; the hint says where.
        """
        return await _keys.retire(self._core, key_id, version, dry_run=dry_run)

    async def rewrap(
        self,
        *,
        all: bool = False,
        dry_run: bool = False,
        verify: bool = False,
        batch: int = _rotation.BATCH,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> RotationReport:
        """Have the backend wrap the data keys of what is stored under its primary key; no payload is opened.

        It may run beside everything else, and be killed: run again, it does what is left. Values adopted from the Go
        system have no data key; they are counted as ``adopted`` and left to :meth:`reencrypt`.

        Args:
            all: also what is under the primary key.
            dry_run: count only.
            verify: open every value under the primary key in the end.
            batch: rows read and replaced at once, at most 1000.
            rate: rows a second at most.
            progress: called after each batch with the rows gone through, and how many there are.

        Raises:
            BackendUnavailable, KeyDenied, KeyNotFound, KeyDisabled: it could not go on; the message and ``metadata``
                say how far it came. Nothing is lost, and the next run goes on.
            KeyInvalid: the key is not the one of this database; nothing was changed.
            FacetMissing: the store does not list its sealed values.
            BadInput: batch or rate are out of range.
        """
        return await self._rotate("rewrap", all, dry_run, verify, batch, rate, progress)

    async def reencrypt(
        self,
        *,
        all: bool = False,
        dry_run: bool = False,
        verify: bool = True,
        batch: int = _rotation.BATCH,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> RotationReport:
        """Open what is stored and seal it under new data keys; also what was adopted from the Go system.

        Everything else is as in :meth:`rewrap`. With ``all`` a run that was killed begins again.
        """
        return await self._rotate("reencrypt", all, dry_run, verify, batch, rate, progress)

    async def _rotate(
        self,
        action: _rotation.Action,
        all: bool,
        dry_run: bool,
        verify: bool,
        batch: int,
        rate: float | None,
        progress: Progress | None,
    ) -> RotationReport:
        async def after(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total)

        return await _rotation.rotate(
            self._core, action, all=all, dry_run=dry_run, verify=verify, batch=batch, rate=rate, after=after
        )

    async def retry_unreadable(self) -> tuple[str, ...]:
        """Open the credentials that could not be opened again, after a key came back; gives the connections left.

        Raises:
            KeyDenied, BackendUnavailable: they cannot be tried now.
            FacetMissing: the store does not keep which they are.
        """
        return await _keys.retry_unreadable(self._core)
