"""Builds the web application from its parts."""

from uuid import UUID

from flask import Response, g, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix

from agentflow import __version__
from agentflow.accounts import passwords
from agentflow.api import (
    accounts,
    audit,
    blocks,
    credentials,
    credits,
    docs,
    events,
    graphs,
    health,
    hooks,
    moderation,
    notifications,
    oauth2,
    outward,
    presets,
    problems,
    rate,
    relay,
    reviews,
    runs,
    schedules,
    sessions,
    triggers,
)
from agentflow.api.places import Places
from agentflow.api.requests import JsonRequest
from agentflow.ids import new_id
from agentflow.schemas.problems import ProblemDocument
from agentflow.services.authentication import COOKIE, Authenticator
from agentflow.settings import Settings
from agentflow.settings import settings as configured

_POLICY = "default-src 'none'; frame-ancestors 'none'"

_ABOUT = (
    "Runs agent graphs. Every request needs an API key (`Authorization: Bearer …`), or the cookie of a session. "
    "Errors are problem documents (RFC 9457)."
)


class _Application(OpenAPI):
    request_class = JsonRequest


def create_app(settings: Settings | None = None) -> OpenAPI:
    """A new application. It connects to the database and the broker at the first request that needs them.

    Args:
        settings: limits of this application; by default those of the process.
    """
    limits = settings or configured()
    app = _Application(
        "agentflow",
        info=Info(title="AgentFlow", version=__version__, description=_ABOUT),
        security_schemes={
            "key": {"type": "http", "scheme": "bearer", "description": "An API key, `af_…`."},
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": COOKIE,
                "description": "A person who signed in; `__Host-` precedes the name over TLS. Changing requests need "
                "`X-CSRF-Token`, too.",
            },
        },
        validation_error_status=400,
        validation_error_model=ProblemDocument,
        validation_error_callback=problems.of_shape,
        doc_ui=False,
        static_folder=None,
    )
    # Each path has one spelling. Redirects would let a Host header choose the target.
    app.url_map.merge_slashes = False
    if limits.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=limits.trusted_proxies, x_proto=limits.trusted_proxies
        )
    app.config["MAX_CONTENT_LENGTH"] = limits.max_body_bytes
    app.extensions["authenticator"] = Authenticator()
    rate.install(app, limits)
    passwords.prepare()
    outward.install(app, limits.web_threads)
    app.extensions["event_streams"] = Places("event streams", limits.max_event_streams)
    app.extensions["block_waits"] = Places("waiting requests", limits.max_block_waits)
    app.before_request(_set_request_id)
    app.after_request(_add_headers)
    app.after_request(audit.end)
    problems.register(app)
    for module in (
        graphs, runs, presets, schedules, reviews, events, blocks, credentials, oauth2, credits, accounts, sessions,
        docs, health, moderation, triggers, hooks, notifications,
    ):  # fmt: skip
        app.register_api(module.api)
    app.register_api(credits.hooks)
    app.register_blueprint(docs.docs)
    app.register_blueprint(relay.streams)
    return app


def _set_request_id() -> None:
    g.request_id = _given_id() or new_id()


def _given_id() -> UUID | None:
    """The id that a proxy gave the request, if it is a UUID."""
    try:
        return UUID(request.headers.get("X-Request-Id", ""))
    except ValueError:
        return None


def _add_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Request-Id", str(g.get("request_id", "")))
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Content-Security-Policy", _POLICY)
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-store"  # replies belong to one owner
    return response
