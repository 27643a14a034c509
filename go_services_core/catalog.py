"""Everything that the loaded plugins offer, checked, without conflicts, and read-only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from attrs import evolve, field, frozen

from . import specs as s
from .distributions import normalised
from .errors import ConfigError, PluginConflict, PluginNotFound, ProviderNotFound


@frozen
class Owner:
    """Who offers a record."""

    plugin: str
    distribution: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        if self.distribution is None:
            return f"the plugin {self.plugin!r}"
        return f"{self.distribution} {self.version}"


@frozen
class Kind:
    """One collected hook: where its records go, and what a record's id is made of."""

    hook: str
    attribute: str
    record: type
    key: str
    noun: str
    dotted: bool = False


_KINDS = (
    Kind("gs_providers", "providers", s.ProviderSpec, "id", "provider"),
    Kind("gs_operations", "operation_packs", s.OperationPack, "id", "operation pack"),
    Kind("gs_auth_strategies", "auth_strategies", s.AuthStrategySpec, "kind", "auth strategy"),
    Kind("gs_jose", "jose", s.JoseSpec, "id", "JOSE implementation"),
    Kind("gs_signers", "signers", s.SignerSpec, "scheme", "signer"),
    Kind("gs_transports", "transports", s.TransportSpec, "kind", "transport"),
    Kind("gs_secret_backends", "secret_backends", s.SecretBackendSpec, "id", "secret backend"),
    Kind("gs_secret_sources", "secret_sources", s.SecretSourceSpec, "scheme", "secret source"),
    Kind("gs_stores", "stores", s.StoreSpec, "id", "store"),
    Kind("gs_webhook_schemes", "webhook_schemes", s.WebhookSchemeSpec, "id", "webhook scheme"),
    Kind("gs_inbound_surfaces", "surfaces", s.SurfaceSpec, "id", "inbound surface"),
    Kind("gs_event_handlers", "event_handlers", s.EventHandlerSpec, "name", "event handler", dotted=True),
    Kind("gs_notifications", "notifications", s.NotificationSpec, "name", "notification", dotted=True),
    Kind("gs_lifecycle_hooks", "lifecycle_hooks", s.LifecycleHookSpec, "name", "lifecycle hook", dotted=True),
    Kind(
        "gs_activity_enrichers", "activity_enrichers", s.ActivityEnricherSpec, "name", "activity enricher", dotted=True
    ),
    Kind("gs_observers", "observers", s.ObserverSpec, "id", "observer"),
    Kind("gs_job_engines", "job_engines", s.JobEngineSpec, "id", "job engine"),
    Kind("gs_messages", "messages", s.MessageSpec, "name", "message", dotted=True),
    Kind("gs_commands", "commands", s.CommandSpec, "name", "command"),
    Kind("gs_health_checks", "health_checks", s.HealthCheckSpec, "id", "health check", dotted=True),
)
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.hook: kind for kind in _KINDS})

R = TypeVar("R")
_STORE_PLUGINS = {"sqlite": "store-sqlite", "postgresql": "store-postgres", "postgres": "store-postgres"}
_SIGNER_PLUGINS = {"dpop": "go-services-auth-jwt", "http_signature_key": "go-services-auth-jwt"}
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


@frozen(kw_only=True)
class Catalog:
    """Read-only mappings from id to record. Operation packs are merged into their providers."""

    providers: Mapping[str, s.ProviderSpec] = _EMPTY
    operation_packs: Mapping[str, s.OperationPack] = _EMPTY
    auth_strategies: Mapping[str, s.AuthStrategySpec] = _EMPTY
    jose: Mapping[str, s.JoseSpec] = _EMPTY
    signers: Mapping[str, s.SignerSpec] = _EMPTY
    transports: Mapping[str, s.TransportSpec] = _EMPTY
    secret_backends: Mapping[str, s.SecretBackendSpec] = _EMPTY
    secret_sources: Mapping[str, s.SecretSourceSpec] = _EMPTY
    stores: Mapping[str, s.StoreSpec] = _EMPTY
    webhook_schemes: Mapping[str, s.WebhookSchemeSpec] = _EMPTY
    surfaces: Mapping[str, s.SurfaceSpec] = _EMPTY
    event_handlers: Mapping[str, s.EventHandlerSpec] = _EMPTY
    notifications: Mapping[str, s.NotificationSpec] = _EMPTY
    lifecycle_hooks: Mapping[str, s.LifecycleHookSpec] = _EMPTY
    activity_enrichers: Mapping[str, s.ActivityEnricherSpec] = _EMPTY
    observers: Mapping[str, s.ObserverSpec] = _EMPTY
    job_engines: Mapping[str, s.JobEngineSpec] = _EMPTY
    messages: Mapping[str, s.MessageSpec] = _EMPTY
    commands: Mapping[str, s.CommandSpec] = _EMPTY
    health_checks: Mapping[str, s.HealthCheckSpec] = _EMPTY
    owners: Mapping[tuple[str, str], Owner] = field(default=MappingProxyType({}), repr=False)
    """Attribute name and id → owner."""

    def owner(self, kind: str, id: str) -> Owner:
        """Who offers the record ``id`` of ``kind``, which is one of this class's mappings: ``"providers"``.

        Raises:
            PluginNotFound: there is no such record.
        """
        found = self.owners.get((kind, id))
        if found is None:
            raise PluginNotFound.named(kind, id, (known for of, known in self.owners if of == kind))
        return found

    def provider(self, id: str) -> s.ProviderSpec:
        """The provider of that id.

        Raises:
            ProviderNotFound: no loaded plugin offers it.
        """
        found = self.providers.get(id)
        if found is None:
            hint = f"Install the plugin that offers it (go-services-{id.replace('_', '-')})."
            raise ProviderNotFound.named("provider", id, self.providers, hint=hint)
        return found

    def store_for(self, url: str) -> s.StoreSpec:
        """The store for a URL, by its scheme. The URL itself is never repeated in an error: it may hold a password.

        Raises:
            ConfigError: no loaded plugin has a store for the scheme.
        """
        scheme, colon, _ = url.partition(":")
        scheme = scheme.lower()
        for store in self.stores.values():
            if colon and scheme in store.url_schemes:
                return store
        installed = ", ".join(sorted(name for store in self.stores.values() for name in store.url_schemes)) or "none"
        plugin = _STORE_PLUGINS.get(scheme.partition("+")[0])
        remedy = f"Install go-services-{plugin}." if plugin else "Install a store plugin, or change store.url."
        said = f"URLs of the scheme {scheme!r}" if colon else "a URL without a scheme"
        raise ConfigError(f"No store handles {said}. Schemes installed: {installed}.", hint=remedy, field="store.url")

    def auth_strategy(self, kind: str) -> s.AuthStrategySpec:
        """The strategy for auth records of ``kind``; raises PluginNotFound."""
        return _named(self.auth_strategies, "auth strategy", kind)

    def signer(self, scheme: str) -> s.SignerSpec:
        """The signer of that scheme; raises PluginNotFound."""
        return _named(self.signers, "signer", scheme, install=_SIGNER_PLUGINS.get(scheme))

    def secret_backend(self, id: str) -> s.SecretBackendSpec:
        """The secret backend of that id; raises PluginNotFound."""
        return _named(self.secret_backends, "secret backend", id, install=f"go-services-secrets-{id}")

    def transport(self, kind: str) -> s.TransportSpec:
        """The transport of that kind; raises PluginNotFound."""
        return _named(self.transports, "transport", kind, install="go-services-transport-http")

    def webhook_scheme(self, id: str) -> s.WebhookSchemeSpec:
        """The webhook scheme of that id; raises PluginNotFound."""
        return _named(self.webhook_schemes, "webhook scheme", id)


def _named(records: Mapping[str, R], noun: str, name: str, *, install: str | None = None) -> R:
    found = records.get(name)
    if found is None:
        known = ", ".join(sorted(records)) or "none"
        hint = f"Installed: {known}. Install {install or 'a plugin that offers it'}."
        raise PluginNotFound.named(noun, name, records, hint=hint)
    return found


# --- making a catalogue out of what plugins offer -------------------------------------------------------------------


@frozen
class Offer:
    """What one plugin returned from its hooks: hook name → records."""

    owner: Owner
    records: Mapping[str, tuple[Any, ...]]

    def items(self) -> Iterator[tuple[Kind, Any, Any]]:
        """Kind, id and record of each; the id is not checked yet."""
        for hook, records in self.records.items():
            kind = KINDS[hook]
            for record in records:
                yield kind, getattr(record, kind.key), record


Faults = dict[str, str]
"""Plugin id → what is wrong with what it offers."""

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*")
_DOTTED = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def assemble(
    offers: Sequence[Offer], prefer: Mapping[str, str], *, warn: Callable[[str], None]
) -> tuple[Catalog, Faults]:
    """The catalogue of ``offers``, or the faults of single plugins; their offers are then to be left out.

    Raises:
        PluginConflict: two plugins offer the same id, and ``prefer`` does not choose between them.
    """
    faults = {offer.owner.plugin: fault for offer in offers if (fault := _own_fault(offer))}
    if faults:
        return Catalog(), faults
    chosen, owners = _choose(offers, prefer)
    _one_store_per_scheme(chosen["stores"], owners, prefer)
    providers = dict(chosen["providers"])
    for pack in chosen["operation_packs"].values():
        if pack.provider_id in providers:
            providers[pack.provider_id] = _merged(providers[pack.provider_id], pack, owners)
    faults = _cross_faults(chosen, providers, owners)
    for pack in chosen["operation_packs"].values():
        if pack.provider_id not in providers and not faults:
            owner = owners["operation_packs", pack.id]
            warn(f"{owner} adds operations to the provider {pack.provider_id!r}, which is not installed")
    mappings = {**chosen, "providers": providers}
    read_only = {name: MappingProxyType(records) for name, records in mappings.items()}
    return Catalog(**read_only, owners=MappingProxyType(owners)), faults


def _own_fault(offer: Offer) -> str | None:
    seen: set[tuple[str, str]] = set()
    for kind, id, record in offer.items():
        if not isinstance(id, str) or not (_DOTTED if kind.dotted else _PLAIN).fullmatch(id):
            return f"the {kind.noun} {id!r}: an id is made of lower-case letters, digits, '-' and '_'"
        if (kind.attribute, id) in seen:
            return f"it offers the {kind.noun} {id!r} twice"
        seen.add((kind.attribute, id))
        fault = None
        if isinstance(record, (s.ProviderSpec, s.OperationPack)):
            fault = _repeated(record.capabilities, "name") or _repeated(record.operations, "id")
        if isinstance(record, s.ProviderSpec):
            fault = fault or _repeated(record.auth, "kind") or _repeated(record.subscriptions, "resource_type")
            fault = fault or (None if record.auth else "it has no way to authenticate")
        if isinstance(record, s.StoreSpec):
            unknown = [facet for facet in record.facets if facet not in s.FACETS]
            fault = f"there is no facet {unknown[0]!r}; facets are {', '.join(s.FACETS)}" if unknown else None
        if fault:
            return f"the {kind.noun} {id!r}: {fault}"
    return None


def _repeated(records: Iterable[Any], key: str) -> str | None:
    seen: set[str] = set()
    for record in records:
        name = getattr(record, key)
        if name in seen:
            return f"{type(record).__name__.lower()} {name!r} occurs twice"
        seen.add(name)
    return None


def _choose(
    offers: Sequence[Offer], prefer: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str], Owner]]:
    offered: dict[tuple[str, str], list[tuple[Owner, Any]]] = defaultdict(list)
    for offer in offers:
        for kind, id, record in offer.items():
            offered[kind.attribute, id].append((offer.owner, record))
    nouns = {kind.attribute: kind.noun for kind in _KINDS}
    chosen: dict[str, dict[str, Any]] = {kind.attribute: {} for kind in _KINDS}
    owners: dict[tuple[str, str], Owner] = {}
    for (attribute, id), rivals in sorted(offered.items(), key=lambda item: item[0]):
        owner = prefer_one([owner for owner, _ in rivals], prefer.get(id), nouns[attribute], id)
        owners[attribute, id] = owner
        chosen[attribute][id] = next(record for rival, record in rivals if rival is owner)
    return chosen, owners


def prefer_one(owners: Sequence[Owner], preferred: str | None, noun: str, id: str) -> Owner:
    """The owner of ``id``: the only one, or the one whose plugin id or distribution is ``preferred``.

    Raises:
        PluginConflict: there are several, and none of them is preferred.
    """
    if len(owners) == 1:
        return owners[0]
    for owner in owners:
        if preferred is not None and normalised(preferred) in {
            normalised(owner.plugin),
            normalised(owner.distribution or owner.plugin),
        }:
            return owner
    names = " and ".join(str(owner) for owner in owners)
    hint = f"Choose one with plugins.prefer.{id} = {owners[0].plugin!r} or {owners[1].plugin!r}."
    if preferred is not None:
        hint = f"plugins.prefer.{id} names {preferred!r}, which is none of them. {hint}"
    count = "Two" if len(owners) == 2 else str(len(owners))
    raise PluginConflict(f"{count} plugins offer the {noun} {id!r}: {names}.", hint=hint, field=f"plugins.prefer.{id}")


def _one_store_per_scheme(
    stores: dict[str, Any], owners: Mapping[tuple[str, str], Owner], prefer: Mapping[str, str]
) -> None:
    by_scheme: dict[str, list[s.StoreSpec]] = defaultdict(list)
    for store in stores.values():
        for scheme in store.url_schemes:
            by_scheme[scheme].append(store)
    for scheme, rivals in by_scheme.items():
        of = {store.id: owners["stores", store.id] for store in rivals}
        winner = prefer_one(list(of.values()), prefer.get(scheme), "store for URLs of the scheme", scheme)
        for store in rivals:
            if of[store.id] is not winner:
                kept = tuple(other for other in stores[store.id].url_schemes if other != scheme)
                stores[store.id] = evolve(stores[store.id], url_schemes=kept)


def _merged(provider: s.ProviderSpec, pack: s.OperationPack, owners: Mapping[tuple[str, str], Owner]) -> s.ProviderSpec:
    merged = evolve(
        provider,
        capabilities=(*provider.capabilities, *pack.capabilities),
        operations=(*provider.operations, *pack.operations),
    )
    repeated = _repeated(merged.capabilities, "name") or _repeated(merged.operations, "id")
    if repeated:
        base, added = owners["providers", provider.id], owners["operation_packs", pack.id]
        raise PluginConflict(
            f"The {repeated} in the provider {provider.id!r}: {base} has it, or another pack, and {added} adds it.",
            hint=f"Leave one out with plugins.disabled = [{added.plugin!r}].",
            plugin=added.plugin,
        )
    return merged


def _cross_faults(
    chosen: Mapping[str, Mapping[str, Any]],
    providers: Mapping[str, s.ProviderSpec],
    owners: Mapping[tuple[str, str], Owner],
) -> Faults:
    """What can only be seen once everybody's records are there."""
    faults: Faults = {}
    for id, provider in providers.items():
        fault = _unserved(provider, chosen["auth_strategies"], chosen["signers"], chosen["webhook_schemes"])
        if fault:
            faults.setdefault(owners["providers", id].plugin, f"the provider {id!r}: {fault}")
            continue
        if operation := _without_capability(provider):
            packs = [
                pack.id
                for pack in chosen["operation_packs"].values()
                if pack.provider_id == id and operation in pack.operations
            ]
            owner = owners["operation_packs", packs[0]] if packs else owners["providers", id]
            faults.setdefault(owner.plugin, f"the provider {id!r}: {_lacking(operation)}")
    return faults


def provider_fault(provider: s.ProviderSpec, catalog: Catalog) -> str | None:
    """What is wrong with a provider that joins a finished catalogue, or None."""
    fault = _own_fault(Offer(Owner(provider.id), {"gs_providers": (provider,)}))
    if fault is None:
        fault = _unserved(provider, catalog.auth_strategies, catalog.signers, catalog.webhook_schemes)
    if fault is None and (operation := _without_capability(provider)):
        fault = _lacking(operation)
    return fault


def _without_capability(provider: s.ProviderSpec) -> s.Operation | None:
    names = {None, *(capability.name for capability in provider.capabilities)}
    return next((operation for operation in provider.operations if operation.capability not in names), None)


def _lacking(operation: s.Operation) -> str:
    return f"the operation {operation.id!r} needs the capability {operation.capability!r}, which it does not have"


def _unserved(
    provider: s.ProviderSpec, strategies: Iterable[str], signers: Iterable[str], webhook_schemes: Iterable[str]
) -> str | None:
    """What ``provider`` needs and nobody offers."""
    for auth in provider.auth:
        if auth.kind not in strategies:
            return f"no auth strategy serves the kind {auth.kind!r}; there are {_list(strategies)}"
        if auth.signer not in signers:
            remedy = f"; install {_SIGNER_PLUGINS[auth.signer]}" if auth.signer in _SIGNER_PLUGINS else ""
            return f"there is no signer {auth.signer!r}; there are {_list(signers)}{remedy}"
    if provider.webhook is not None and provider.webhook.scheme not in webhook_schemes:
        return f"there is no webhook scheme {provider.webhook.scheme!r}; there are {_list(webhook_schemes)}"
    operations = {operation.id for operation in provider.operations}
    for record in provider.subscriptions:
        for id in (record.create, record.renew, record.cancel):
            if id is not None and id not in operations:
                return f"subscriptions to {record.resource_type!r} need the operation {id!r}, which it does not have"
    return None


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
