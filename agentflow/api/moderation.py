"""Serves `/api/v1/moderation`: to admins, what was refused."""

from flask import Response

from agentflow.accounts import users
from agentflow.api.blueprint import blueprint
from agentflow.api.replies import reply
from agentflow.engine.codec import loads
from agentflow.moderation import store
from agentflow.moderation.schemas import RefusedTextList, RefusedTextsQuery, RefusedTextView
from agentflow.moderation.tables import RefusedText
from agentflow.services import cursors
from agentflow.services.cursors import PageRequest
from agentflow.services.transaction import transaction

api = blueprint("moderation", "What was refused.")


@api.get("/moderation/refusals", responses={200: RefusedTextList})
def list_refusals(query: RefusedTextsQuery) -> Response:
    """List what moderation refused, the newest first: where the operator keeps it (AGENTFLOW_MODERATION_KEEP)."""
    name = f"refusals {query.user_id}"
    with transaction() as session:
        if query.user_id is not None:
            users.get(session, query.user_id)
        below = cursors.identifier(name, query.after)
        found = store.page(session, query.user_id, below, query.limit + 1)
        rows, more = PageRequest(query.after, query.limit).cut(name, found, lambda one: (one.id,))
        return reply(RefusedTextList(items=[_view(one) for one in rows], next_cursor=more))


def _view(one: RefusedText) -> RefusedTextView:
    return RefusedTextView(
        id=one.id,
        at=one.at,
        user_id=one.owner_id,
        run_id=one.run_id,
        node_id=one.node_id or None,
        categories=one.categories,
        reason=one.reason,
        content=loads(one.content),
    )
