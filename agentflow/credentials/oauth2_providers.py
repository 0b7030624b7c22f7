"""Describes providers of OAuth2: the well-known ones, and what an operator may say of any.

An entry of AGENTFLOW_OAUTH_PROVIDERS names one. What it says of a well-known provider replaces what stands here; of
any other it says all. The comments give the source of what is peculiar to a provider.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

GRANT_IS_OVER: Final = frozenset({"invalid_grant", "interaction_required", "consent_required", "login_required"})
"""The errors with which providers say that their user must authorise again: RFC 6749, and OpenID Connect's."""


class OAuthProvider(BaseModel):
    """A provider of OAuth2, and this installation's app there. Its `repr` shows no secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    client_id: str = Field("", description="What the provider calls this installation; empty: nobody can log in there.")
    client_secret: SecretStr = Field(SecretStr(""), description="Empty: a public client, which has PKCE only.")
    authorize_url: str = Field("", description="Where browsers are sent.")
    token_url: str
    revoke_url: str = Field("", description="Where tokens are revoked (RFC 7009); empty: nowhere.")
    revoke_with: Literal["token", "bearer", "github"] = Field(
        "token", description="How: RFC 7009's form, a call with the token itself, or GitHub's way."
    )
    test_url: str = Field("", description="Answers a GET with a valid token with 200, and changes nothing.")
    headers: dict[str, str] = Field({}, description="Sent with each request, such as a version.")
    scopes: tuple[str, ...] = Field((), description="What is asked for where nobody names scopes.")
    scope_separator: Literal[" ", ","] = " "
    pkce: bool = Field(True, description="Whether it knows PKCE (RFC 7636).")
    authenticate: Literal["basic", "post"] = Field("basic", description="How the client's secret is sent.")
    json_body: bool = Field(False, description="Whether its token endpoint takes JSON instead of a form.")
    authorize_params: dict[str, str] = {}
    token_seconds: float | None = Field(
        None, gt=0, description="How long a token is good where the reply does not say so; null: for ever."
    )
    client_credentials: bool = Field(False, description="Whether it has the grant `client_credentials`.")
    grant_over: frozenset[str] = Field(
        frozenset(), description="Its own errors, in lower case, after which its user must authorise again."
    )
    implied_scopes: dict[str, tuple[str, ...]] = Field({}, description="Scope → narrower scopes that it contains.")

    @field_validator("authorize_url", "token_url", "revoke_url", "test_url")
    @classmethod
    def _safe(cls, value: str) -> str:
        """Nobody on the way may read what is sent: TLS, or this machine."""
        try:
            parts = urlsplit(value)
            named = bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            named = False
        if value and not (named and (parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname)))):
            raise ValueError("it must be an https address")
        return value

    @model_validator(mode="after")
    def _usable(self) -> "OAuthProvider":
        if not self.client_credentials and not (self.authorize_url and self.client_id):
            raise ValueError("it needs authorize_url and client_id, or client_credentials")
        if self.client_id and not self.client_secret.get_secret_value() and not self.pkce:
            raise ValueError("it needs client_secret, as it does not know PKCE")
        if any(self.scope_separator in scope for scope in self.scopes):
            raise ValueError("a scope has the scope_separator in it: scopes is a list")
        return self

    @property
    def takes_logins(self) -> bool:
        """Whether users can authorise this installation there."""
        return bool(self.client_id and self.authorize_url)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that this installation itself calls."""
        return tuple(filter(None, (self.token_url, self.revoke_url, self.test_url)))


def _is_here(host: str | None) -> bool:
    return host in _LOOPBACK


WELL_KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    # https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps: PKCE with S256 only; the
    # token's reply lists scopes with commas, although the request has spaces; errors come with status 200. Tokens of
    # OAuth apps do not expire; those of GitHub Apps do (8 h), and rotate:
    # https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
    # Revoking: https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token
    "github": {
        "authorize_url": "https://github.com/login/oauth/authorize",
        "token_url": "https://github.com/login/oauth/access_token",
        "revoke_url": "https://api.github.com/applications/{client_id}/token",
        "revoke_with": "github",
        "test_url": "https://api.github.com/user",
        "authenticate": "post",
        "grant_over": ["bad_refresh_token"],
        # https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps, normalised scopes
        "implied_scopes": {
            "repo": ["repo:status", "repo_deployment", "public_repo", "repo:invite", "security_events"],
            "user": ["read:user", "user:email", "user:follow"],
            "admin:org": ["write:org", "read:org"],
            "write:org": ["read:org"],
            "admin:repo_hook": ["write:repo_hook", "read:repo_hook"],
            "write:repo_hook": ["read:repo_hook"],
            "project": ["read:project"],
            "write:packages": ["read:packages"],
        },
    },
    # https://developers.google.com/identity/protocols/oauth2/web-server: a refresh token only with access_type=offline,
    # and after the first time only with prompt=consent; it does not rotate. Revoking ends the user's whole consent.
    "google": {
        "authorize_url": "https://accounts.google.com/o/oauth2/v2/auth",
        "token_url": "https://oauth2.googleapis.com/token",
        "revoke_url": "https://oauth2.googleapis.com/revoke",
        "authenticate": "post",
        "authorize_params": {"access_type": "offline", "prompt": "consent", "include_granted_scopes": "true"},
        "token_seconds": 3600,
        # https://developers.google.com/identity/protocols/oauth2/scopes: replies have the long names
        "implied_scopes": {
            "https://www.googleapis.com/auth/userinfo.email": ["email"],
            "https://www.googleapis.com/auth/userinfo.profile": ["profile"],
        },
    },
    # https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow: a refresh token only with
    # offline_access; it rotates, and the old one stays good. client_credentials needs a tenant's own token_url.
    "microsoft": {
        "authorize_url": "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
        "token_url": "https://login.microsoftonline.com/common/oauth2/v2.0/token",
        "test_url": "https://graph.microsoft.com/v1.0/me",
        "authenticate": "post",
        "scopes": ["offline_access", "User.Read"],
        "token_seconds": 3600,
    },
    # https://api.slack.com/authentication/oauth-v2 and /rotation: scopes with commas; errors come with status 200 and
    # {"ok": false}; without rotation tokens do not expire, with it they do after 12 h, and refresh tokens rotate.
    "slack": {
        "authorize_url": "https://slack.com/oauth/v2/authorize",
        "token_url": "https://slack.com/api/oauth.v2.access",
        "revoke_url": "https://slack.com/api/auth.revoke",
        "revoke_with": "bearer",
        "test_url": "https://slack.com/api/auth.test",
        "scope_separator": ",",
        "pkce": False,
        "authenticate": "post",
        "grant_over": ["invalid_refresh_token", "token_revoked", "token_expired", "account_inactive"],
    },
    # https://developers.notion.com/reference/create-a-token and refresh-a-token: basic authentication, JSON, a version;
    # no scopes; refreshing gives a new refresh token. No life time is told.
    "notion": {
        "authorize_url": "https://api.notion.com/v1/oauth/authorize",
        "token_url": "https://api.notion.com/v1/oauth/token",
        "test_url": "https://api.notion.com/v1/users/me",
        "headers": {"Notion-Version": "2022-06-28"},
        "pkce": False,
        "json_body": True,
        "authorize_params": {"owner": "user"},
    },
    # https://discord.com/developers/docs/topics/oauth2: tokens of 7 days, refresh tokens, client_credentials.
    "discord": {
        "authorize_url": "https://discord.com/oauth2/authorize",
        "token_url": "https://discord.com/api/oauth2/token",
        "revoke_url": "https://discord.com/api/oauth2/token/revoke",
        "test_url": "https://discord.com/api/oauth2/@me",
        "scopes": ["identify"],
        "client_credentials": True,
        "token_seconds": 604_800,
    },
    # https://linear.app/developers/oauth-2-0-authentication: scopes with commas, PKCE, refresh tokens for all apps
    # since 2026, client_credentials where the app allows it. Its API is GraphQL only, so nothing can be asked by GET.
    "linear": {
        "authorize_url": "https://linear.app/oauth/authorize",
        "token_url": "https://api.linear.app/oauth/token",
        "revoke_url": "https://api.linear.app/oauth/revoke",
        "scopes": ["read"],
        "scope_separator": ",",
        "authenticate": "post",
        "client_credentials": True,
        "token_seconds": 86_400,
    },
    # https://legacydocs.hubspot.com/docs/methods/oauth2/refresh-access-token: secrets in the form; an error has
    # `status` and no `error` (https://www.nango.dev/blog/hubspot-oauth-bad-refresh-token). Tokens of 30 min.
    "hubspot": {
        "authorize_url": "https://app.hubspot.com/oauth/authorize",
        "token_url": "https://api.hubapi.com/oauth/v1/token",
        "scopes": ["oauth"],
        "pkce": False,
        "authenticate": "post",
        "token_seconds": 1800,
        "grant_over": ["bad_refresh_token"],
    },
    # https://airtable.com/developers/web/api/oauth-reference: PKCE is required; tokens of 60 min; a refresh token is
    # used once, and using it again ends the grant.
    "airtable": {
        "authorize_url": "https://airtable.com/oauth2/v1/authorize",
        "token_url": "https://airtable.com/oauth2/v1/token",
        "test_url": "https://api.airtable.com/v0/meta/whoami",
        "scopes": ["data.records:read"],
        "token_seconds": 3600,
    },
    # https://dropbox.tech/developers/using-oauth-2-0-with-offline-access: a refresh token only with
    # token_access_type=offline; it does not rotate; tokens of 4 h.
    "dropbox": {
        "authorize_url": "https://www.dropbox.com/oauth2/authorize",
        "token_url": "https://api.dropboxapi.com/oauth2/token",
        "revoke_url": "https://api.dropboxapi.com/2/auth/token/revoke",
        "revoke_with": "bearer",
        "authorize_params": {"token_access_type": "offline"},
        "token_seconds": 14_400,
    },
    # https://developer.spotify.com/documentation/web-api/tutorials/code-flow and client-credentials-flow: tokens of
    # 1 h; a reply to a refresh may have no new refresh token. `/me` is for users' tokens.
    "spotify": {
        "authorize_url": "https://accounts.spotify.com/authorize",
        "token_url": "https://accounts.spotify.com/api/token",
        "test_url": "https://api.spotify.com/v1/me",
        "client_credentials": True,
        "token_seconds": 3600,
    },
    # https://github.com/reddit-archive/reddit/wiki/OAuth2: a refresh token only with duration=permanent; basic
    # authentication; no PKCE. A refusal of a refresh token is {"message": "Bad Request", "error": 400}.
    "reddit": {
        "authorize_url": "https://www.reddit.com/api/v1/authorize",
        "token_url": "https://www.reddit.com/api/v1/access_token",
        "revoke_url": "https://www.reddit.com/api/v1/revoke_token",
        "test_url": "https://oauth.reddit.com/api/v1/me",
        "scopes": ["identity"],
        "pkce": False,
        "authorize_params": {"duration": "permanent"},
        "client_credentials": True,
        "token_seconds": 3600,
        "grant_over": ["400"],
    },
    # https://docs.x.com/fundamentals/authentication/oauth-2-0/user-access-token: PKCE is required, basic authentication
    # for confidential clients, a refresh token only with offline.access; tokens of 2 h; refresh tokens are used once. A
    # refused one is `invalid_request`.
    "x": {
        "authorize_url": "https://x.com/i/oauth2/authorize",
        "token_url": "https://api.x.com/2/oauth2/token",
        "revoke_url": "https://api.x.com/2/oauth2/revoke",
        "test_url": "https://api.x.com/2/users/me",
        "scopes": ["users.read", "tweet.read", "offline.access"],
        "token_seconds": 7200,
        "grant_over": ["invalid_request"],
    },
}  # fmt: skip
"""What is known of providers by name. An operator adds `client_id` and `client_secret`."""

BY_THEMSELVES: Final[Mapping[str, OAuthProvider]] = {
    name: OAuthProvider(**known) for name, known in WELL_KNOWN.items() if known.get("client_credentials")
}
"""Those that a user can have tokens of with a client of their own, so that no operator need name them."""


def merged(given: object) -> object:
    """An operator's entries by name in lower case, each over what is known; what has another form stays as it is.

    Raises:
        ValueError: two names differ in capitals only.
    """
    if not isinstance(given, Mapping):
        return given
    named = {str(name).lower(): entry for name, entry in given.items()}
    if len(named) < len(given):
        raise ValueError("two providers have the same name, but for capitals")
    return {
        name: {**WELL_KNOWN.get(name, {}), **entry} if isinstance(entry, Mapping) else entry
        for name, entry in named.items()
    }
