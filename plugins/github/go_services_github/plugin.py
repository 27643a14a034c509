"""GitHub: OAuth Apps and personal access tokens, repositories and issues."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core import (
    ApiSpec,
    Capability,
    HmacWebhook,
    Identity,
    OAuth2Code,
    Operation,
    Pagination,
    Param,
    PersonalToken,
    ProviderSpec,
    Ref,
    hookimpl,
)

GS_CONTRACT = 1

PAGING = (
    Param("per_page", type="integer", help="Results per page, 100 at most"),
    Param("page", type="integer", help="Number of the page"),
)
REPOSITORY = (
    Param("owner", "path", help="Account that owns the repository"),
    Param("repo", "path", help="Name of the repository"),
)

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
    ),
    operations=(
        Operation(
            "user.get",
            "GET",
            "/user",
            summary="The account that is connected",
            docs_url="https://docs.github.com/rest/users/users#get-the-authenticated-user",
        ),
        Operation(
            "repos.list",
            "GET",
            "/user/repos",
            capability="repo.read",
            params=(
                Param("visibility", help="all, public or private"),
                Param("affiliation", help="owner, collaborator, organization_member; separated by commas"),
                Param("sort", help="created, updated, pushed or full_name"),
                Param("direction", help="asc or desc"),
                Param("since", help="Only those updated after this time (ISO 8601)"),
                *PAGING,
            ),
            pagination=Pagination("link"),
            summary="Repositories that the account can reach",
            docs_url="https://docs.github.com/rest/repos/repos#list-repositories-for-the-authenticated-user",
        ),
        Operation(
            "issues.list",
            "GET",
            "/repos/{owner}/{repo}/issues",
            capability="issues.read",
            params=(
                *REPOSITORY,
                Param("state", help="open, closed or all"),
                Param("labels", help="Names of labels, separated by commas"),
                Param("sort", help="created, updated or comments"),
                Param("direction", help="asc or desc"),
                Param("since", help="Only those updated after this time (ISO 8601)"),
                *PAGING,
            ),
            pagination=Pagination("link"),
            summary="Issues and pull requests of a repository",
            docs_url="https://docs.github.com/rest/issues/issues#list-repository-issues",
        ),
        Operation(
            "issues.create",
            "POST",
            "/repos/{owner}/{repo}/issues",
            capability="issues.write",
            params=(
                *REPOSITORY,
                Param("title", "body", required=True, help="Title of the issue"),
                Param("body", "body", help="Text, in Markdown"),
                Param("labels", "body", "array", help="Names of labels"),
                Param("assignees", "body", "array", help="Logins"),
                Param("milestone", "body", "integer", help="Number of the milestone"),
            ),
            summary="Open an issue",
            docs_url="https://docs.github.com/rest/issues/issues#create-an-issue",
        ),
    ),
    webhook=HmacWebhook(
        signature_header="X-Hub-Signature-256",
        prefix="sha256=",
        id_header="X-GitHub-Delivery",
        event_header="X-GitHub-Event",
    ),
)


@hookimpl
def gs_providers() -> Iterable[ProviderSpec]:
    return (GITHUB,)
