"""Pytest classes over the conformance checks: subclass one, give ``subject``, get a test per check.

::

    class TestMyStore(StoreKit):
        @asynccontextmanager
        async def subject(self):
            store = MyStore(...)
            await store.migrate(); await store.open()
            yield store
            await store.aclose()
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import pytest

from .kit import Check, Kind, Skipped, checks_of


class Kit:
    """Base of the kits. A subclass may not replace a check; it may only mark it as an expected failure."""

    kind: ClassVar[Kind]

    def subject(self) -> AbstractAsyncContextManager[Any]:
        """A fresh object to examine."""
        raise TypeError(f"{type(self).__name__} must define subject()")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[1:]:
            for name, own in vars(cls).items():
                if not name.startswith("test_") or not getattr(vars(base).get(name), "conformance", False):
                    continue
                marks = getattr(own, "pytestmark", [])
                if not any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks):
                    raise TypeError(f"{cls.__name__}.{name} replaces a check; mark it xfail with a reason instead")


def _add_tests(kit: type[Kit]) -> None:
    for rule in checks_of(kit.kind):
        name = "test_" + rule.id.replace("-", "_") + "_" + getattr(rule.run, "__name__", "check")
        setattr(kit, name, _as_test(rule))


def _as_test(rule: Check) -> Any:
    def test(self: Kit) -> None:
        async def run() -> None:
            async with self.subject() as made:
                await rule.apply(made)

        try:
            asyncio.run(run())
        except Skipped as reason:
            pytest.skip(f"{rule.id}: {reason}")
        except AssertionError as failed:
            if rule.level == "must":
                raise
            pytest.xfail(f"{rule.id}, which is recommended only: {failed}")

    test.__doc__ = rule.rule
    test.conformance = True  # type: ignore[attr-defined]
    return test


class PluginKit(Kit):
    """Checks for a plugin module; the subject is the plugin's id."""

    kind = "plugin"


class ProviderKit(Kit):
    """Checks for a ``ProviderSpec``; the subject is the record."""

    kind = "provider"


class StoreKit(Kit):
    """Checks for a store; the subject is an open, migrated, empty store."""

    kind = "store"


class SecretBackendKit(Kit):
    """Checks for a secret backend; the subject is an open backend."""

    kind = "secrets"


class TransportKit(Kit):
    """Checks for a transport; the subject's guard lets ``127.0.0.1`` through for the provider ``kit``, nothing else."""

    kind = "transport"


class CallTransportKit(Kit):
    """Checks for a transport kind that shapes calls; the subject is a ``CallSubject``."""

    kind = "call"


class SignerKit(Kit):
    """Checks for a signer; the subject is a ``SignerSubject``."""

    kind = "signer"


class WebhookKit(Kit):
    """Checks for a webhook scheme; the subject is a ``WebhookSubject``."""

    kind = "webhook"


class FaceKit(Kit):
    """Checks for a web face; the subject is a ``FaceSubject``."""

    kind = "face"


for _kit in (
    PluginKit,
    ProviderKit,
    StoreKit,
    SecretBackendKit,
    TransportKit,
    CallTransportKit,
    SignerKit,
    WebhookKit,
    FaceKit,
):
    _add_tests(_kit)
