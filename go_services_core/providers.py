"""Providers as they are configured: what ``provider_id`` in rows stands for.

Every provider of the catalogue has an instance under its own id. ``[providers.ghe] use = "github"`` makes another one,
and a table with ``auth`` declares a provider that no plugin brings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs
from attrs import evolve, field, frozen

from .auth_specs import AuthSpec
from .call_specs import RateBudget
from .catalog import Catalog, provider_fault
from .config.layers import Config
from .config.roots import DeclaredProvider, ProviderCommon
from .config.structure import Reader, fields_of
from .delivery_specs import InboxPolicy
from .errors import BadInput, CapabilityUnsupported, ConfigError, OperationNotFound, ProviderNotFound, nearest
from .hosts import DEFAULT_PORTS, PLAIN_URL, host_of, is_on_hosts
from .refs import Ref
from .secret import SecretStr
from .specs import ApiSpec, Capability, Operation, ProviderSpec
from .webhook_specs import WebhookSpec

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_FILLED: Final = ("_url", "issuer", "region", "assertion_audience")
"""Endings of the fields of auth records that may have placeholders."""
WEBHOOK_FILLED: Final = ("public_url", "audience", "email", "topics")
"""Fields of webhook records that may have them; one that is not set is missed when a delivery comes."""
PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@frozen(kw_only=True)
class ProviderInstance:
    """One configured provider."""

    id: str
    spec: ProviderSpec
    """Its ``id`` is the instance's, and the placeholders of its URLs are filled."""
    plugin_provider: str
    """Id of the catalogue's provider; the instance's own where the configuration declares it."""
    settings: Any = None
    """Instance of the provider's settings class."""
    redirect_uri: str | None = None
    grants: tuple[str, ...] | None = None
    """Grants to ask for instead of the provider's own; the auth records of ``spec`` have them already."""
    inheritance: Literal["strict", "org"] = "strict"
    """Whether a user may be served by the connection of an organisation that the call names."""
    refresh_concurrency: int = 8
    """Renewals ahead of time that one process has in flight at once."""
    refresh_rate: float | None = None
    """Renewals ahead of time a second, of all processes together; None means no limit."""
    webhook_secrets: tuple[SecretStr, ...] = field(default=(), repr=False)
    default_auth: str
    hosts: tuple[str, ...] = ()
    """Where the credential may go: ``host``, ``*.domain``, each with ``:port`` if it is not the scheme's own."""
    strategy_settings: Mapping[str, Any] = field(factory=dict, repr=False)
    """Kind of authentication → settings instance, or the problems (a tuple of str) that keep it from being used."""
    unset: tuple[str, ...] = ()
    """Required settings of the provider itself that nobody set; it cannot be used until they are."""
    _operations: Mapping[str, Operation] = field(init=False, repr=False, eq=False)
    _capabilities: Mapping[str, Capability] = field(init=False, repr=False, eq=False)

    @_operations.default
    def _by_id(self) -> Mapping[str, Operation]:
        return {operation.id: operation for operation in self.spec.operations}

    @_capabilities.default
    def _by_name(self) -> Mapping[str, Capability]:
        return {capability.name: capability for capability in self.spec.capabilities}

    def auth(self, kind: str | None = None) -> AuthSpec:
        """The auth record of ``kind``, or the default one.

        Raises:
            BadInput: the provider has none of that kind.
            ConfigError: the provider lacks settings.
        """
        self._check_set()
        wanted = kind or self.default_auth
        for auth in self.spec.auth:
            if auth.kind == wanted:
                return auth
        kinds = ", ".join(auth.kind for auth in self.spec.auth)
        raise BadInput(f"The provider {self.id!r} has no authentication {wanted!r}.", hint=f"It has {kinds}.")

    def auth_settings(self, kind: str | None = None) -> Any:
        """The strategy's settings, such as the client id; None for a strategy that takes none.

        Raises:
            BadInput: the provider has no such kind.
            ConfigError: a required setting is missing; it names the key.
        """
        wanted = self.auth(kind).kind
        found = self.strategy_settings.get(wanted)
        if isinstance(found, tuple):
            raise ConfigError(problems=found, field=f"providers.{self.id}")
        return found

    def allows(self, url: str) -> bool:
        """Whether a credential of this provider may be sent to ``url``: by scheme, host and port.

        ``http`` is allowed only where the API's own base URL is ``http``. ``*.domain`` does not match ``domain``.
        """
        return is_on_hosts(url, self.hosts, plain_http=self._is_plain_http)

    @property
    def _is_plain_http(self) -> bool:
        return self.spec.api is not None and self.spec.api.base_url.lower().startswith("http://")

    def operation(self, id: str) -> Operation:
        """The operation of that id.

        Raises:
            OperationNotFound: the provider has none.
            ConfigError: the provider lacks settings.
        """
        self._check_set()
        found = self._operations.get(id)
        if found is None:
            raise OperationNotFound.named(f"operation of {self.id}", id, self._operations)
        return found

    def declares(self, id: str) -> bool:
        """Whether the provider's record has the operation of that id."""
        return id in self._operations

    def capability(self, name: str) -> Capability:
        """The capability of that name.

        Raises:
            CapabilityUnsupported: the provider has none.
        """
        found = self._capabilities.get(name)
        if found is None:
            near = nearest(name, self._capabilities)
            known = ", ".join(sorted(self._capabilities)) or "none"
            hint = f"Did you mean {near!r}?" if near else f"It has {known}."
            raise CapabilityUnsupported(f"The provider {self.id!r} does not offer {name!r}.", hint=hint)
        return found

    def _check_set(self) -> None:
        if self.unset:
            raise ConfigError(problems=self.unset, field=f"providers.{self.id}")


def build_instances(
    config: Config, catalog: Catalog, resolve: Callable[[str], SecretStr]
) -> Mapping[str, ProviderInstance]:
    """All instances by id, read-only.

    Raises:
        ConfigError: with every problem of every provider's table at once.
    """
    reader = config.reader(resolve)
    instances = collect_instances(config, catalog, reader)
    if reader.problems:
        raise ConfigError(problems=dict.fromkeys(reader.problems), field="providers")
    return MappingProxyType(instances)


def collect_instances(config: Config, catalog: Catalog, reader: Reader) -> dict[str, ProviderInstance]:
    """As :func:`build_instances`, but problems go to ``reader`` and their providers are left out."""
    tables = config.table("providers")
    instances = {}
    for id in sorted({*catalog.providers, *tables}):
        made = _Builder(id, tables.get(id, {}), config, catalog, reader).build()
        if made is not None:
            instances[id] = made
    return instances


class _Builder:
    """Makes one instance out of its table."""

    def __init__(self, id: str, table: Any, config: Config, catalog: Catalog, reader: Reader) -> None:
        self._id = id
        self._path = ("providers", id)
        self._table = table
        self._config = config
        self._catalog = catalog
        self._reader = reader

    def build(self) -> ProviderInstance | None:
        if not isinstance(self._table, dict):
            self._reader.problem(self._path, "must be a table.")
            return None
        if not _ID.fullmatch(self._id):
            self._reader.problem(self._path, "an id is made of lower-case letters, digits, '-' and '_'.")
            return None
        declares = isinstance(self._table.get("auth"), (dict, list))
        spec = self._declared() if declares else self._offered()
        return None if spec is None else self._instance(spec, declares=declares)

    def _offered(self) -> ProviderSpec | None:
        use = self._table.get("use")
        if use is not None and use != self._id and self._id in self._catalog.providers:
            text = f"{self._id!r} is a provider itself; give the instance of {use!r} another id."
            self._reader.problem((*self._path, "use"), text)
            return None
        try:
            return self._catalog.provider(self._id if use is None else str(use))
        except ProviderNotFound as error:
            remedy = " Or declare it here with 'auth', or name another provider in 'use'." if use is None else ""
            self._reader.problem(self._path if use is None else (*self._path, "use"), f"{error}{remedy}")
            return None

    def _declared(self) -> ProviderSpec | None:
        if self._id in self._catalog.providers or "use" in self._table:
            owner = "'use'" if "use" in self._table else str(self._catalog.owner("providers", self._id))
            self._reader.problem(
                (*self._path, "auth"), f"{owner} brings this provider, so it cannot be declared here; name a kind."
            )
            return None
        before = len(self._reader.problems)
        auths = self._table["auth"] if isinstance(self._table["auth"], list) else [self._table["auth"]]
        strategies = self._catalog.auth_strategies
        auth = [
            self._by_name(item, "kind", {kind: spec.record for kind, spec in strategies.items()}, ("auth",))
            for item in auths
        ]
        webhook = None
        if "webhook" in self._table:
            schemes = {id: spec.record for id, spec in self._catalog.webhook_schemes.items()}
            webhook = self._by_name(self._table["webhook"], "scheme", schemes, ("webhook",))
        table = {name: value for name, value in self._table.items() if name not in {"auth", "webhook"}}
        if isinstance(operations := table.get("operations"), list):
            table["operations"] = [self._with_call(operation, index) for index, operation in enumerate(operations)]
        made = self._reader.record(DeclaredProvider, table, self._path)
        if len(self._reader.problems) > before or made is None:
            return None
        values = {name: getattr(made, name) for name in fields_of(DeclaredProvider)}
        spec = ProviderSpec(**{**values, "id": self._id, "name": made.name or self._id}, auth=auth, webhook=webhook)
        fault = provider_fault(spec, self._catalog)
        if fault is not None:
            self._reader.problem(self._path, f"{fault}.")
            return None
        for index, operation in enumerate(spec.operations):
            if (unfit := _unfit(operation, spec.api)) is not None:
                self._reader.problem((*self._path, "operations", index), f"{unfit}.")
        return spec if len(self._reader.problems) == before else None

    def _with_call(self, operation: Any, index: int) -> Any:
        """The table of an operation, with the record of its transport kind made."""
        if not isinstance(operation, dict) or "call" not in operation:
            return operation
        kinds = {kind: spec.record for kind, spec in self._catalog.transports.items() if spec.record is not None}
        made = self._by_name(operation["call"], "kind", kinds, ("operations", index, "call"))
        others = {name: value for name, value in operation.items() if name != "call"}
        return others if made is None else {**others, "call": made}

    def _by_name(self, table: Any, key: str, records: Mapping[str, Any], place: tuple[str | int, ...]) -> Any:
        """A record whose class is chosen by the table's ``kind`` or ``scheme``."""
        path = (*self._path, *place)
        if not isinstance(table, dict) or not isinstance(table.get(key), str):
            self._reader.problem(path, f"must be a table with {key!r}.")
            return None
        record = records.get(table[key])
        if record is None:
            near = nearest(table[key], records)
            remedy = f"Did you mean {near!r}?" if near else f"There are {', '.join(sorted(records)) or 'none'}."
            self._reader.problem(path, f"{table[key]!r} cannot be declared in a configuration file. {remedy}")
            return None
        cls = record.resolve() if isinstance(record, Ref) else record
        return self._reader.strict(cls, {name: value for name, value in table.items() if name != key}, path)

    def _instance(self, spec: ProviderSpec, *, declares: bool) -> ProviderInstance | None:
        before = len(self._reader.problems)
        cls = spec.settings.resolve() if isinstance(spec.settings, Ref) else spec.settings
        own_names = set() if cls is None else set(fields_of(cls))
        strategies = {auth.kind: self._catalog.auth_strategy(auth.kind).settings for auth in spec.auth}
        classes = {kind: found.resolve() if isinstance(found, Ref) else found for kind, found in strategies.items()}
        known = {*fields_of(ProviderCommon), *own_names}
        known.update(name for found in classes.values() if found is not None for name in fields_of(found))
        if declares:
            known.update(fields_of(DeclaredProvider), {"webhook"})
        self._reader.unknown(self._path, self._table, known)
        shared = {name: value for name, value in self._table.items() if name not in own_names}
        if declares:
            del shared["auth"]
        common = self._reader.record(ProviderCommon, shared, self._path)
        settings, unset = (None, ()) if cls is None else self._optional(cls)
        bound = {kind: self._strategy(found) for kind, found in classes.items()}
        if unset and self._table:
            self._reader.problems += unset
        if common is None or len(self._reader.problems) > before:
            return None
        default_auth = common.auth or spec.auth[0].kind
        if default_auth not in bound:
            text = f"{spec.name} has no such kind of authentication; it has {', '.join(bound)}."
            self._reader.problem((*self._path, "auth"), text)
            return None
        provider = spec.id
        spec = evolve(spec, id=self._id, inbox=_inbox(spec.inbox, common))
        if not unset:
            filled = self._filled(spec, common, settings)
            if filled is None:
                return None
            spec = filled
        return ProviderInstance(
            id=self._id,
            spec=spec,
            plugin_provider=provider,
            settings=settings,
            redirect_uri=common.redirect_uri,
            grants=common.grants,
            inheritance=common.inheritance,
            refresh_concurrency=common.refresh_concurrency,
            refresh_rate=common.refresh_rate,
            webhook_secrets=common.webhook_secrets,
            default_auth=default_auth,
            hosts=_hosts(spec.api) if spec.api is not None and not unset else (),
            strategy_settings=bound,
            unset=unset,
        )

    def _optional(self, cls: type) -> tuple[Any, tuple[str, ...]]:
        """The record, and the required settings that it lacks, which are no problem before it is used."""
        before = len(self._reader.missing)
        made = self._reader.record(cls, self._table, self._path)
        missing = tuple(self._reader.missing[before:])
        del self._reader.missing[before:]
        return made, missing

    def _strategy(self, cls: type | None) -> Any:
        if cls is None:
            return None
        made, missing = self._optional(cls)
        return missing or made

    def _filled(self, spec: ProviderSpec, common: ProviderCommon, settings: Any) -> ProviderSpec | None:
        """``spec`` with ``{name}`` replaced in its URLs, and with the grants and the base URL of the table."""
        lacking: dict[str, None] = {}

        def fill(text: str) -> str:
            def value(found: re.Match[str]) -> str:
                name = found[1]
                filler = getattr(settings, name, None)
                if filler is None and name == "base_url":
                    filler = (common.base_url or "").rstrip("/")
                if filler is None or filler == "":
                    lacking[name] = None
                    return ""
                return str(filler)

            return PLACEHOLDER.sub(value, text)

        auths = []
        for auth in spec.auth:
            changes = {
                name: fill(text)
                for name in fields_of(type(auth))
                if name.endswith(_FILLED) and isinstance(text := getattr(auth, name), str)
            }
            if common.grants is not None and hasattr(auth, "default_grants"):
                changes["default_grants"] = common.grants  # type: ignore[assignment]
            if endpoints := getattr(auth, "mtls_endpoints", None):
                changes["mtls_endpoints"] = {name: fill(url) for name, url in endpoints.items()}  # type: ignore[assignment]
            auths.append(attrs.evolve(auth, **changes) if changes else auth)  # type: ignore[misc]
        api, identity = spec.api, spec.identity
        if api is None and common.base_url is not None:
            api = ApiSpec(base_url=common.base_url)
        if api is not None:
            base_url = common.base_url or fill(api.base_url)
            api = evolve(
                api,
                base_url=base_url.rstrip("/"),
                hosts=tuple(fill(host) for host in api.hosts),
                budget=_limited(api.budget, common),
                retry=common.retry or api.retry,
                breaker=common.breaker or api.breaker,
            )
        if identity is not None:
            issuer = fill(identity.issuer) if identity.issuer is not None else None
            identity = evolve(identity, url=fill(identity.url), issuer=issuer)
        for name in lacking:
            text = f"must be set: the URLs of {spec.name} are made of it."
            self._reader.problem((*self._path, name), text)
        if api is not None and not lacking and not _is_base_url(api.base_url):
            text = "the base URL must read https://host or https://host/path, without user, query or fragment."
            self._reader.problem((*self._path, "base_url"), text)
            return None
        return (
            None
            if lacking
            else evolve(
                spec, auth=tuple(auths), api=api, identity=identity, webhook=_filled_webhook(spec, common, settings)
            )
        )


def _filled_webhook(spec: ProviderSpec, common: ProviderCommon, settings: Any) -> WebhookSpec | None:
    """The webhook's record with the settings in it that are set."""

    def fill(text: str) -> str:
        def value(found: re.Match[str]) -> str:
            filler = getattr(settings, found[1], None)
            if not filler and found[1] == "webhook_url":
                filler = (common.webhook_url or "").rstrip("/")
            return str(filler) if filler else found[0]

        return PLACEHOLDER.sub(value, text)

    changes: dict[str, Any] = {}
    for name in WEBHOOK_FILLED:
        given = getattr(spec.webhook, name, None)
        if isinstance(given, (str, tuple)):
            changes[name] = fill(given) if isinstance(given, str) else tuple(map(fill, given))
    record: Any = spec.webhook
    return evolve(record, **changes) if changes else spec.webhook


def _limited(budget: RateBudget, common: ProviderCommon) -> RateBudget:
    """The budget with the operator's windows."""
    windows = budget.windows if common.rate_limit is None else common.rate_limit
    return evolve(budget, windows=windows, per=common.rate_limit_per or budget.per)


def _inbox(policy: InboxPolicy, common: ProviderCommon) -> InboxPolicy:
    """The policy with what the operator set."""
    return InboxPolicy(
        schedule=common.webhook_schedule or policy.schedule,
        concurrency=common.webhook_concurrency or policy.concurrency,
        timeout=common.webhook_timeout or policy.timeout,
        order=common.webhook_order or policy.order,
        burst=common.webhook_burst or policy.burst,
    )


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc) and PLAIN_URL.fullmatch(url) is not None
    return port_is_valid and plain and parts.scheme in DEFAULT_PORTS and bool(parts.hostname)


def _hosts(api: ApiSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.lower() for name in (host_of(api.base_url), *api.hosts)))


def _unfit(operation: Operation, api: ApiSpec | None) -> str | None:
    """Why no call of ``operation`` could be made, or None."""
    in_path = {param.name for param in operation.params if param.where == "path"}
    for name in PLACEHOLDER.findall(operation.path):
        if name not in in_path:
            return (
                f"the path of {operation.id!r} has {{{name}}}, and there is no parameter {name!r} with where = 'path'"
            )
    if operation.keyed and operation.idempotency_header is None and (api is None or api.idempotency_header is None):
        return f"{operation.id!r} is keyed, and neither it nor the API has an idempotency_header"
    return None
