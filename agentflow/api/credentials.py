"""Serves `/api/v1/credentials`, one's own credentials without secrets, and `/providers`, whose blocks take."""

from uuid import UUID

from flask import Response, url_for
from pydantic import BaseModel

from agentflow.api.audit import made as recorded
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.replies import reply
from agentflow.clock import now
from agentflow.credentials import revoking, service, system
from agentflow.credentials.kinds import Kind, standing
from agentflow.credentials.schemas import (
    ChangeCredential,
    CredentialDeletionQuery,
    CredentialList,
    CredentialListQuery,
    CredentialView,
    NewCredential,
    ProviderList,
    ProviderView,
)
from agentflow.credentials.service import Changes, New
from agentflow.credentials.tables import StoredCredential
from agentflow.services import credential_uses, cursors
from agentflow.services.transaction import transaction

api = blueprint("credentials", "What blocks may use elsewhere: keys, passwords, headers. Secrets are never shown.")


class CredentialPath(BaseModel):
    """Which credential."""

    credential_id: UUID


@api.get("/providers", responses={200: ProviderList})
def list_providers() -> Response:
    """List whose credentials the blocks take, of which types, and whether the operator has one for everybody."""
    return reply(ProviderList(items=[ProviderView.model_validate(one) for one in system.providers()]))


@api.post("/credentials", responses={201: CredentialView})
def create_credential(body: NewCredential) -> Response:
    """Store a credential, encrypted. Nobody can read its secret again; blocks of your own runs use it."""
    with transaction() as session:
        new = New(body.provider, body.title, body.secret, body.expires_at, body.exclusive)
        view = view_of(service.create(session, owner_id(), new))
        recorded(view.id)
    response = reply(view, 201)
    response.headers["Location"] = url_for("credentials.get_credential", credential_id=view.id)
    return response


@api.get("/credentials", responses={200: CredentialList})
def list_credentials(query: CredentialListQuery) -> Response:
    """List your credentials, the newest first."""
    name = f"credentials {query.provider}"
    with transaction() as session:
        after = cursors.identifier(name, query.after)
        found = service.page(session, owner_id(), query.provider, after, query.limit + 1)
        items = [view_of(one) for one in found[: query.limit]]
    more = cursors.cursor(name, items[-1].id) if len(found) > query.limit else None
    return reply(CredentialList(items=items, next_cursor=more))


@api.get("/credentials/<uuid:credential_id>", responses={200: CredentialView})
def get_credential(path: CredentialPath) -> Response:
    """One of your credentials, without its secret."""
    with transaction() as session:
        return reply(view_of(service.get(session, owner_id(), path.credential_id)))


@api.patch("/credentials/<uuid:credential_id>", responses={200: CredentialView})
def change_credential(path: CredentialPath, body: ChangeCredential) -> Response:
    """Give a credential another title, expiry, exclusiveness or secret; a new secret makes it valid again."""
    expires_at = (body.expires_at,) if "expires_at" in body.model_fields_set else None
    with transaction() as session:
        changes = Changes(body.title, body.secret, expires_at, body.exclusive)
        view = view_of(service.change(session, owner_id(), path.credential_id, changes))
    return reply(view)


@api.delete("/credentials/<uuid:credential_id>", responses={204: None})
def delete_credential(path: CredentialPath, query: CredentialDeletionQuery) -> Response:
    """Delete a credential. What names it fails from now on, in runs under way too. Tokens of a login are revoked.

    One that presets name is deleted with `force` only.
    """
    with transaction() as session:
        one = service.get(session, owner_id(), path.credential_id, lock=True)
        if not query.force:
            credential_uses.refuse_if_used(session, owner_id(), path.credential_id)
        revoking.revoke_after(session, one)
        service.delete(session, owner_id(), path.credential_id)
    return Response(status=204)


def view_of(one: StoredCredential) -> CredentialView:
    return CredentialView(
        id=one.id,
        provider=one.provider,
        type=Kind(one.kind),
        title=one.title,
        state=standing(one.state, one.expires_at, now()),
        details=one.details,
        exclusive=one.exclusive,
        created_at=one.created_at,
        updated_at=one.updated_at,
        last_used_at=one.last_used_at,
        expires_at=one.expires_at,
        token_expires_at=one.token_expires_at,
    )
