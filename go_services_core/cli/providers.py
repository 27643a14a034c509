"""``go-services providers``: what can be connected, and what it offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ..errors import OperationNotFound, ProviderNotFound
from .lazy import Group
from .options import as_json
from .output import clean, fields, show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..catalog import Catalog
    from ..config import Config
    from ..providers import ProviderInstance


@click.group(cls=Group)
def providers() -> None:
    """List and show providers.

    \b
    go-services providers list
    go-services providers show github
    """


@providers.command("list")
@as_json
@pass_session
def list_providers(session: Session, as_json: bool) -> None:
    """List the providers of the installed plugins and of the configuration, and whether each is configured."""
    config = session.config()
    catalog, instances = _instances(config)
    configured = config.table("providers")
    found = []
    for instance in instances.values():
        owner = catalog.owners.get(("providers", instance.plugin_provider))
        found.append(
            {
                "id": instance.id,
                "name": instance.spec.name,
                "auth": [auth.kind for auth in instance.spec.auth],
                "operations": len(instance.spec.operations),
                "configured": instance.id in configured,
                "plugin": owner.plugin if owner is not None else None,
            }
        )
    if as_json:
        show_json({"providers": found})
        return
    table(
        ("id", "name", "auth", "operations", "configured", "plugin"),
        [tuple(one.values()) for one in found],
        empty="No plugin brings a provider. Install one: pip install go-services-github",
    )


@providers.command()
@click.argument("provider")
@click.argument("operation", required=False)
@as_json
@pass_session
def show(session: Session, provider: str, operation: str | None, as_json: bool) -> None:
    """Show a provider: how it authenticates, its capabilities and its operations; or one OPERATION with its parameters.

    \b
    go-services providers show github
    go-services providers show github issues.list
    """
    from . import operation as one_operation

    instances = _instances(session.config())[1]
    if provider not in instances:
        raise ProviderNotFound.named(
            "provider", provider, instances, hint="`go-services providers list` shows what can be connected."
        )
    instance = instances[provider]
    spec = instance.spec
    if operation is not None:
        found = next((one for one in spec.operations if one.id == operation), None)
        if found is None:
            raise OperationNotFound.named(f"operation of {provider}", operation, [one.id for one in spec.operations])
        if as_json:
            show_json(one_operation.as_table(found, spec.api))
        else:
            one_operation.show(found, spec.api)
        return
    capabilities = [{"name": one.name, "grants": list(one.grants), "denied": one.denied} for one in spec.capabilities]
    operations = [one_operation.as_table(one, spec.api) for one in spec.operations]
    if as_json:
        show_json(
            {
                "id": provider,
                "name": spec.name,
                "auth": [auth.kind for auth in spec.auth],
                "base_url": spec.api.base_url if spec.api else None,
                "webhook": spec.webhook.scheme if spec.webhook else None,
                "scope_types": list(spec.scope_types),
                "capabilities": capabilities,
                "operations": operations,
                "docs_url": spec.docs_url,
            }
        )
        return
    fields(
        [
            ("id", provider),
            ("name", spec.name),
            ("auth", [auth.kind for auth in spec.auth]),
            ("api", spec.api.base_url if spec.api else None),
            ("webhook", spec.webhook.scheme if spec.webhook else None),
            ("docs", spec.docs_url),
        ]
    )
    click.echo()
    table(("capability", "grants"), [(one["name"], one["grants"]) for one in capabilities], empty="No capabilities.")
    click.echo()
    rows = [(one.id, one.method, one.path, one.capability, one.summary) for one in spec.operations]
    headers = ("operation", "method", "path", "capability", "summary")
    table(headers, rows, empty="No operations.", whole=1)
    if rows:
        click.echo(f"\n`go-services providers show {provider} OPERATION` shows its parameters.")


def _instances(config: Config) -> tuple[Catalog, Mapping[str, ProviderInstance]]:
    """The providers of plugins and configuration; one whose table is wrong is left out, `config validate` names it."""
    from ..providers import collect_instances
    from .survey import survey

    catalog = survey(config).catalog()
    reader = config.reader(None)
    instances = collect_instances(config, catalog, reader)
    for problem in dict.fromkeys(reader.problems):
        click.echo(f"note: {clean(problem)}", err=True)
    return catalog, instances
