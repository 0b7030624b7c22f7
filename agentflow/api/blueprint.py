"""Makes the blueprints of `/api/v1`, which share the prefix, authentication, scopes, rate limit and refusals."""

from collections.abc import Callable
from functools import cache, partial
from inspect import signature
from uuid import UUID

from flask import current_app, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from agentflow.accounts import keys, sessions
from agentflow.accounts.keys import Caller
from agentflow.api import audit
from agentflow.api.auth import key_in, session_in
from agentflow.api.scopes import NEEDED, OPEN
from agentflow.errors import Forbidden, Malformed, Problem, Unauthenticated
from agentflow.services.authentication import Authenticator

PREFIX = "/api/v1"


def blueprint(noun: str, about: str) -> APIBlueprint:
    """The blueprint for a noun. Every request to it needs a key or a session, but for operations in `OPEN`."""
    made = APIBlueprint(
        noun,
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=noun, description=about)],
        abp_security=[{"key": []}, {"session": []}],
        operation_id_callback=name_of_the_view,
    )
    made.before_request(_identify)
    made.before_request(refuse_query)
    return made


def name_of_the_view(*, name: str, **_: str) -> str:
    """The name of an operation in generated clients."""
    return name


def _identify() -> None:
    operation = (request.endpoint or "").rpartition(".")[2]
    if operation in OPEN:
        return
    who = _caller()
    g.caller = who
    audit.begin(who, operation)
    needed = NEEDED[operation]
    if needed is not None:
        who.require(needed)


def _caller() -> Caller:
    authenticator: Authenticator = current_app.extensions["authenticator"]
    if (key := key_in(request)) is not None:
        who = authenticator.caller_of(key)
        g.rate_left = current_app.extensions["rate"].take(keys.digest(key))
        return who
    g.session_secret = session_in(request)
    who = authenticator.person_of(g.session_secret)
    g.rate_left = current_app.extensions["rate"].take(sessions.digest(g.session_secret))
    return who


def may_go_on() -> Callable[[], bool]:
    """A function that tells, also after the view returned, whether the caller still may do what this request does."""
    authenticator: Authenticator = current_app.extensions["authenticator"]
    needed = NEEDED[(request.endpoint or "").rpartition(".")[2]]
    secret = session_secret()
    ask = (
        partial(authenticator.caller_of, key_in(request) or "")
        if secret is None
        else partial(authenticator.person_of, secret)
    )

    def allowed() -> bool:
        try:
            who = ask()
            if needed is not None:
                who.require(needed)
        except (Unauthenticated, Forbidden):
            return False
        return True

    return allowed


def refuse_query() -> None:
    """Refuse a query at a view that takes none, as the models of the others refuse what they do not know."""
    if request.args and not _takes_query(current_app.view_functions[request.endpoint or ""]):
        problems = [Problem(f"{name}: there is no such field") for name in request.args]
        raise Malformed(problems[0].message, problems)


@cache
def _takes_query(view: Callable[..., object]) -> bool:
    return "query" in signature(view).parameters


def caller() -> Caller:
    """Who sends the present request."""
    found: Caller = g.caller
    return found


def session_secret() -> str | None:
    """The secret of the present request's session; None: it has a key."""
    found: str | None = g.get("session_secret")
    return found


def owner_id() -> UUID:
    """The user who sends the present request, and to whom all that it makes belongs."""
    return caller().user_id
