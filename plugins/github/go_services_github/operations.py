"""The calls of GitHub's REST API, as records: https://docs.github.com/rest."""

from __future__ import annotations

from typing import Final

from go_services_core import Operation, Pagination, Param
from go_services_core.call_specs import RateBudget, Window

REST: Final = RateBudget(windows=(Window(900, 60),))
"""Points of the secondary limit: a read takes 1, a write 5. The primary limit differs by plan and is learned.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits
"""
CONTENT: Final = RateBudget(windows=(Window(400, 60), Window(2500, 3600)), bucket="content")
"""About 80 requests a minute, and 500 an hour, that create content; each takes the 5 points of a write."""
SEARCH: Final = RateBudget(windows=(Window(30, 60),), bucket="search")
"""https://docs.github.com/rest/search/search#rate-limit"""
STATUS: Final = RateBudget(bucket="rate_limit", learn=())
"""Asking for the limits does not count; its answer's headers tell of another budget."""
_WRITE: Final = 5.0
_DOCS: Final = "https://docs.github.com/rest"

_PAGING = (
    Param("per_page", type="integer", minimum=1, maximum=100, help="Results per page; 30 where it is not given"),
    Param("page", type="integer", minimum=1, help="Number of the page"),
)
_REPOSITORY = (
    Param("owner", "path", help="Account that owns the repository"),
    Param("repo", "path", help="Name of the repository"),
)
_NUMBER = Param("number", "path", "integer", minimum=1, help="Number of the issue or pull request")
_DIRECTION = Param("direction", choices=("asc", "desc"), help="Order")
_SINCE = Param("since", type="datetime", help="Only those updated after this time")
_STATE = Param("state", choices=("open", "closed", "all"), help="State; open where it is not given")
_LABELS = Param("labels", "body", "array", help="Names of labels")
_ASSIGNEES = Param("assignees", "body", "array", help="Logins")
_MILESTONE = Param("milestone", "body", "integer", nullable=True, help="Number of the milestone; null for none")
_LINK = Pagination("link", size_param="per_page")

OPERATIONS: Final = (
    Operation(
        "user.get",
        "GET",
        "/user",
        summary="The account that is connected",
        docs_url=f"{_DOCS}/users/users#get-the-authenticated-user",
    ),
    Operation(
        "user.emails",
        "GET",
        "/user/emails",
        capability="user.emails",
        params=_PAGING,
        pagination=_LINK,
        summary="E-mail addresses of the account",
        docs_url=f"{_DOCS}/users/emails#list-email-addresses-for-the-authenticated-user",
    ),
    Operation(
        "repos.list",
        "GET",
        "/user/repos",
        capability="repo.read",
        params=(
            Param("visibility", choices=("all", "public", "private"), help="Which repositories"),
            Param(
                "affiliation",
                type="array",
                style="comma",
                choices=("owner", "collaborator", "organization_member"),
                help="What the account is to them",
            ),
            Param("sort", choices=("created", "updated", "pushed", "full_name"), help="What they are ordered by"),
            _DIRECTION,
            _SINCE,
            *_PAGING,
        ),
        pagination=_LINK,
        summary="Repositories that the account can reach",
        docs_url=f"{_DOCS}/repos/repos#list-repositories-for-the-authenticated-user",
    ),
    Operation(
        "repos.get",
        "GET",
        "/repos/{owner}/{repo}",
        capability="repo.read",
        params=_REPOSITORY,
        summary="A repository",
        docs_url=f"{_DOCS}/repos/repos#get-a-repository",
    ),
    Operation(
        "issues.list",
        "GET",
        "/repos/{owner}/{repo}/issues",
        capability="issues.read",
        params=(
            *_REPOSITORY,
            _STATE,
            Param("labels", type="array", style="comma", help="Names of labels, all of which an issue has"),
            Param("assignee", help="Login, * for any or none"),
            Param("sort", choices=("created", "updated", "comments"), help="What they are ordered by"),
            _DIRECTION,
            _SINCE,
            *_PAGING,
        ),
        pagination=_LINK,
        summary="Issues and pull requests of a repository",
        docs_url=f"{_DOCS}/issues/issues#list-repository-issues",
    ),
    Operation(
        "issues.get",
        "GET",
        "/repos/{owner}/{repo}/issues/{number}",
        capability="issues.read",
        params=(*_REPOSITORY, _NUMBER),
        summary="An issue",
        docs_url=f"{_DOCS}/issues/issues#get-an-issue",
    ),
    Operation(
        "issues.create",
        "POST",
        "/repos/{owner}/{repo}/issues",
        capability="issues.write",
        params=(
            *_REPOSITORY,
            Param("title", "body", required=True, help="Title of the issue"),
            Param("body", "body", help="Text, in Markdown"),
            _LABELS,
            _ASSIGNEES,
            _MILESTONE,
        ),
        cost=_WRITE,
        budget=CONTENT,
        summary="Open an issue",
        docs_url=f"{_DOCS}/issues/issues#create-an-issue",
    ),
    Operation(
        "issues.update",
        "PATCH",
        "/repos/{owner}/{repo}/issues/{number}",
        capability="issues.write",
        params=(
            *_REPOSITORY,
            _NUMBER,
            Param("title", "body", help="Title of the issue"),
            Param("body", "body", nullable=True, help="Text, in Markdown; null for none"),
            Param("state", "body", choices=("open", "closed"), help="State"),
            Param(
                "state_reason",
                "body",
                choices=("completed", "not_planned", "duplicate", "reopened"),
                help="Why the state changes",
            ),
            _LABELS,
            _ASSIGNEES,
            _MILESTONE,
        ),
        idempotent=True,
        cost=_WRITE,
        summary="Change, close or open an issue again",
        docs_url=f"{_DOCS}/issues/issues#update-an-issue",
    ),
    Operation(
        "comments.list",
        "GET",
        "/repos/{owner}/{repo}/issues/{number}/comments",
        capability="issues.read",
        params=(*_REPOSITORY, _NUMBER, _SINCE, *_PAGING),
        pagination=_LINK,
        summary="Comments on an issue or pull request",
        docs_url=f"{_DOCS}/issues/comments#list-issue-comments",
    ),
    Operation(
        "comments.create",
        "POST",
        "/repos/{owner}/{repo}/issues/{number}/comments",
        capability="issues.write",
        params=(*_REPOSITORY, _NUMBER, Param("body", "body", required=True, help="Text, in Markdown")),
        cost=_WRITE,
        budget=CONTENT,
        summary="Comment on an issue or pull request",
        docs_url=f"{_DOCS}/issues/comments#create-an-issue-comment",
    ),
    Operation(
        "pulls.list",
        "GET",
        "/repos/{owner}/{repo}/pulls",
        capability="repo.read",
        params=(
            *_REPOSITORY,
            _STATE,
            Param("head", help="Only from this branch: owner:branch"),
            Param("base", help="Only into this branch"),
            Param(
                "sort", choices=("created", "updated", "popularity", "long-running"), help="What they are ordered by"
            ),
            _DIRECTION,
            *_PAGING,
        ),
        pagination=_LINK,
        summary="Pull requests of a repository",
        docs_url=f"{_DOCS}/pulls/pulls#list-pull-requests",
    ),
    Operation(
        "pulls.get",
        "GET",
        "/repos/{owner}/{repo}/pulls/{number}",
        capability="repo.read",
        params=(*_REPOSITORY, _NUMBER),
        summary="A pull request",
        docs_url=f"{_DOCS}/pulls/pulls#get-a-pull-request",
    ),
    Operation(
        "commits.list",
        "GET",
        "/repos/{owner}/{repo}/commits",
        capability="repo.read",
        params=(
            *_REPOSITORY,
            Param("sha", help="Branch, tag or commit to begin at"),
            Param("path", help="Only those that touch this file"),
            Param("author", help="Login or e-mail address"),
            _SINCE,
            Param("until", type="datetime", help="Only those before this time"),
            *_PAGING,
        ),
        pagination=_LINK,
        summary="Commits of a repository",
        docs_url=f"{_DOCS}/commits/commits#list-commits",
    ),
    Operation(
        "contents.get",
        "GET",
        "/repos/{owner}/{repo}/contents/{path}",
        capability="repo.read",
        params=(
            *_REPOSITORY,
            Param("path", "path", style="segments", help="Path of a file or folder"),
            Param("ref", help="Branch, tag or commit; the default branch where it is not given"),
        ),
        summary="A file with its content in base64, or the entries of a folder",
        docs_url=f"{_DOCS}/repos/contents#get-repository-content",
    ),
    Operation(
        "contents.put",
        "PUT",
        "/repos/{owner}/{repo}/contents/{path}",
        capability="repo.write",
        params=(
            *_REPOSITORY,
            Param("path", "path", style="segments", help="Path of the file"),
            Param("message", "body", required=True, help="Message of the commit"),
            Param("content", "body", required=True, help="New content, in base64"),
            Param("sha", "body", help="Blob that is replaced; required where the file exists"),
            Param("branch", "body", help="Branch; the default branch where it is not given"),
            Param("author_name", "body", wire="author.name", help="Name of the author"),
            Param("author_email", "body", wire="author.email", help="E-mail address of the author"),
        ),
        idempotent=False,
        cost=_WRITE,
        budget=CONTENT,
        summary="Create or replace a file with a commit",
        docs_url=f"{_DOCS}/repos/contents#create-or-update-file-contents",
    ),
    Operation(
        "search.issues",
        "GET",
        "/search/issues",
        capability="issues.read",
        params=(
            Param("q", required=True, help="What to search for, with qualifiers: repo:octo/hello is:open"),
            Param("sort", choices=("comments", "reactions", "interactions", "created", "updated"), help="Sorting"),
            Param("order", choices=("asc", "desc"), help="Order"),
            *_PAGING,
        ),
        pagination=Pagination("link", items="items", size_param="per_page"),
        budget=SEARCH,
        summary="Issues and pull requests that match a query, 1000 at most",
        docs_url=f"{_DOCS}/search/search#search-issues-and-pull-requests",
    ),
    Operation(
        "rate_limit.get",
        "GET",
        "/rate_limit",
        result="resources",
        budget=STATUS,
        summary="Limits of the account, by resource",
        docs_url=f"{_DOCS}/rate-limit/rate-limit#get-rate-limit-status-for-the-authenticated-user",
    ),
)
