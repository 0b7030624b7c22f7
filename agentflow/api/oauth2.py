"""Serves `/api/v1/credentials/oauth2`, where users log in at providers, and the test of a credential.

Providers are asked outside of transactions, so that a slow one holds no connection of the database, and so many times a
minute for each user, as each call holds a thread.
"""

from typing import Final
from uuid import UUID

from flask import Response, current_app, request, url_for

from agentflow.accounts.keys import Caller
from agentflow.accounts.oidc_provider import shown
from agentflow.accounts.scopes import Scope
from agentflow.api.audit import begin_return, only_looking
from agentflow.api.audit import made as recorded
from agentflow.api.auth import session_in
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.credentials import CredentialPath, view_of
from agentflow.api.outward import calling_out
from agentflow.api.replies import reply
from agentflow.api.sessions import address, sign_in_limit
from agentflow.clock import now
from agentflow.credentials import oauth2, probing, service
from agentflow.credentials.oauth2 import Client, Login, Wanted
from agentflow.credentials.schemas import (
    BeginLogin,
    CredentialView,
    EndLogin,
    LoginBegun,
    LoginReturnQuery,
    NewClient,
    TestResult,
)
from agentflow.errors import Forbidden, Malformed, Unauthenticated
from agentflow.services.authentication import Authenticator
from agentflow.services.transaction import transaction

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>AgentFlow</title>
<h1>{title}</h1>
<p>{text}</p>
</html>
"""
_DONE: Final = _PAGE.format(
    title="The credential is stored", text="You may close this page. On the command line, press Enter."
)
_NOT_YET: Final = _PAGE.format(
    title="One step is left",
    text="You are not signed in here, so nothing is stored yet. Copy the address of this page, all of it, to where you "
    "began: <code>agentflow credentials login</code> asks for it. It counts once, and for ten minutes.",
)

api = blueprint("oauth2", "Credentials of providers where people log in.")


@api.post("/credentials/oauth2/login", responses={201: LoginBegun})
def begin_login(body: BeginLogin) -> Response:
    """Begin to log in at a provider: open the address of the reply in a browser, and allow what it asks for."""
    scopes = None if body.scopes is None else tuple(dict.fromkeys(body.scopes))
    with transaction() as session:
        begun = oauth2.begin(session, owner_id(), Wanted(body.provider, scopes, body.title, body.credential_id))
        recorded(body.credential_id or body.provider.lower())
    made = LoginBegun(authorization_url=begun.address, state=begun.state, expires_at=begun.expires_at)
    return reply(made, 201)


@api.post("/credentials/oauth2/callback", responses={200: CredentialView})
def end_login(body: EndLogin) -> Response:
    """End a login of yours with what the browser came back with. The tokens are stored as a credential."""
    if (body.code is None) == (body.error is None):
        raise Malformed("code: one of code and error is needed, and not both")
    with calling_out(owner_id()):
        with only_looking(), transaction() as session:
            login = oauth2.take(session, owner_id(), body.state)
        code = None if body.code is None else body.code.get_secret_value()
        return reply(_ended(owner_id(), login, code, body.error))


@api.get("/credentials/oauth2/callback", responses={200: {"description": "A page."}})
def return_from_login(query: LoginReturnQuery) -> Response:
    """Where a provider sends the browser back. If you are signed in here, the login ends; else a page says how."""
    sign_in_limit().take(None, address())
    who = _person()
    if who is None:
        return _page(_NOT_YET)
    who.require(Scope.CREDENTIALS_MANAGE)
    with calling_out(who.user_id):
        with transaction() as session:
            login = oauth2.take(session, who.user_id, query.state)
        begin_return(who, "end_login")
        _ended(who.user_id, login, query.code or None, query.error)
    return _page(_DONE)


@api.post("/credentials/oauth2/client", responses={201: CredentialView})
def create_client(body: NewClient) -> Response:
    """Store your own client at a provider, which gets tokens by itself. It is tried at once."""
    scopes = tuple(dict.fromkeys(body.scopes or ()))
    wanted = Wanted(body.provider.lower(), scopes, body.title, body.credential_id)
    with calling_out(owner_id()):
        with only_looking(), transaction() as session:
            oauth2.check(session, owner_id(), wanted)
        client, at = Client(body.client_id, body.client_secret.get_secret_value()), now()
        tokens = oauth2.asked_for_client(wanted.provider, client, scopes)
    with transaction() as session:
        view = view_of(oauth2.keep_for_client(session, owner_id(), wanted, client, tokens, at))
        recorded(view.id)
    response = reply(view, 201)
    response.headers["Location"] = url_for("credentials.get_credential", credential_id=view.id)
    return response


@api.post("/credentials/<uuid:credential_id>/test", responses={200: TestResult})
def test_credential(path: CredentialPath) -> Response:
    """Try a credential at its provider by a call that changes nothing. A token that is due is renewed."""
    with calling_out(owner_id()), only_looking():
        with transaction() as session:
            one = service.get(session, owner_id(), path.credential_id)
        tried = probing.probe(one)  # which may refuse, after a transaction of its own
    with transaction():  # records that it was tried
        pass
    return reply(TestResult(ok=tried.ok, detail=tried.detail))


def _ended(user_id: UUID, login: Login, code: str | None, error: str | None) -> CredentialView:
    """Get the tokens and store them."""
    if code is None or error is not None:
        raise Forbidden(f"{login.provider} did not let you in: {shown(error or '') or 'it gives no code'}")
    at = now()
    tokens = oauth2.asked(login, code)
    with transaction() as session:
        view = view_of(oauth2.keep(session, user_id, login, tokens, at))
        recorded(view.id)
    return view


def _person() -> Caller | None:
    """Who is signed in at this browser."""
    authenticator: Authenticator = current_app.extensions["authenticator"]
    try:
        return authenticator.person_of(session_in(request))
    except Unauthenticated:
        return None


def _page(text: str) -> Response:
    return Response(text, mimetype="text/html")
