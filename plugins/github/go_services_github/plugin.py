"""GitHub: OAuth Apps and personal access tokens, repositories, contents, issues and pull requests."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core import (
    ApiSpec,
    Capability,
    Identity,
    OAuth2Code,
    PersonalToken,
    ProviderSpec,
    Ref,
    hookimpl,
)
from go_services_core.webhooks import vendors

from .operations import OPERATIONS, REST

GS_CONTRACT = 1

GITHUB = ProviderSpec(
    id="github",
    name="GitHub",
    docs_url="https://docs.github.com/rest",
    settings=Ref("go_services_github.settings:GitHubSettings"),
    adapter=Ref("go_services_github.api:GitHubAdapter"),
    auth=(
        OAuth2Code(
            authorize_url="{web_url}/login/oauth/authorize",
            token_url="{web_url}/login/oauth/access_token",
            revocation_url="{base_url}/applications",
            default_grants=("repo", "read:user"),
            client_auth="post",
        ),
        PersonalToken(),
    ),
    api=ApiSpec(
        base_url="{base_url}",
        headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
        request_id_header="X-GitHub-Request-Id",
        budget=REST,
    ),
    identity=Identity(
        url="/user",
        account="id",
        grants_header="X-OAuth-Scopes",
        issuer="{web_url}",
        fields={"name": "name|login", "picture_url": "avatar_url"},
    ),
    # https://docs.github.com/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
    implies={
        "repo": ("repo:status", "repo_deployment", "public_repo", "repo:invite", "security_events"),
        "user": ("read:user", "user:email", "user:follow"),
        "project": ("read:project",),
        "admin:org": ("write:org",),
        "write:org": ("read:org",),
        "admin:repo_hook": ("write:repo_hook",),
        "write:repo_hook": ("read:repo_hook",),
        "admin:public_key": ("write:public_key",),
        "write:public_key": ("read:public_key",),
        "admin:gpg_key": ("write:gpg_key",),
        "write:gpg_key": ("read:gpg_key",),
    },
    capabilities=(
        Capability("repo.read", grants=("repo",)),
        Capability("repo.write", grants=("repo",)),
        Capability("issues.read", grants=("repo",)),
        Capability("issues.write", grants=("repo",)),
        Capability("user.emails", grants=("user:email",)),
    ),
    operations=OPERATIONS,
    webhook=vendors.GITHUB,
)


@hookimpl
def gs_providers() -> Iterable[ProviderSpec]:
    return (GITHUB,)
