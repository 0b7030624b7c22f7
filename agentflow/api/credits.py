"""Serves `/api/v1/credits`: what a user has and has used, grants and limits by admins, and the webhook for top-ups."""

import csv
import io
from typing import Final
from uuid import UUID

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from agentflow.api import audit
from agentflow.api.blueprint import PREFIX, blueprint, caller, name_of_the_view, owner_id, refuse_query
from agentflow.api.graphs import GraphPath
from agentflow.api.replies import reply
from agentflow.api.requests import optional_body
from agentflow.credits import ledger
from agentflow.credits.ledger import Given
from agentflow.credits.schemas import (
    CreditLimit,
    CreditsQuery,
    CreditsView,
    CreditTransactionList,
    CreditTransactionsQuery,
    CreditTransactionView,
    EstimateGraph,
    GraphEstimate,
    NewGrant,
    NewTopUp,
    NodeEstimate,
)
from agentflow.credits.store import Balance
from agentflow.credits.tables import CreditTransaction, TransactionType
from agentflow.errors import Malformed, NotFound
from agentflow.services import cursors, estimates
from agentflow.services.submissions import MAX_KEY
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.triggers.signatures import Scheme, verify

_CSV: Final = "text/csv"
_FORMULA: Final = ("=", "+", "-", "@")
"""How a text begins that a spreadsheet would compute."""

api = blueprint("credits", "What runs cost, and what users have.")

hooks = APIBlueprint(
    "credit_hooks",
    __name__,
    url_prefix=PREFIX,
    abp_tags=[Tag(name="hooks", description="For other systems, which sign what they send.")],
    operation_id_callback=name_of_the_view,
)
hooks.before_request(refuse_query)


@api.get("/credits", responses={200: CreditsView})
def get_credits(query: CreditsQuery) -> Response:
    """What a user has."""
    with transaction() as session:
        owner = ledger.owner_for(session, caller(), query.user_id)
        return reply(_balance(owner, ledger.balance(session, owner)))


@api.get("/credits/transactions", responses={200: CreditTransactionList})
def list_transactions(query: CreditTransactionsQuery) -> Response:
    """List a user's transactions, the newest first; as CSV where `Accept` prefers that."""
    with transaction() as session:
        owner = ledger.owner_for(session, caller(), query.user_id)
        name = f"credits {owner}"
        below = cursors.integers(name, query.after, 1)
        found = ledger.page(session, owner, below[0] if below else None, query.limit + 1)
        items = [_transaction(one) for one in found[: query.limit]]
    more = cursors.cursor(name, items[-1].number) if len(found) > query.limit else None
    if request.accept_mimetypes.best_match(["application/json", _CSV], "application/json") == _CSV:
        response = Response(_as_csv(items), mimetype=_CSV)
        if more is not None:
            response.headers["X-Next-Cursor"] = more
        return response
    return reply(CreditTransactionList(items=items, next_cursor=more))


@api.post("/credits/grants", responses={201: CreditTransactionView})
def grant_credits(body: NewGrant) -> Response:
    """Give a user credits.

    With an `Idempotency-Key` header, sending the same again gives nothing more; another body with it is a 422.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise Malformed(f"an Idempotency-Key is 1 to {MAX_KEY} printable ASCII characters")
    with transaction() as session:
        given = ledger.grant(session, caller(), body.user_id, TransactionType(body.type), body.amount, body.reason, key)
        audit.made(body.user_id)
        return _given(given)


@api.put("/credits/limit", responses={200: CreditsView})
def set_credit_limit(body: CreditLimit) -> Response:
    """Set how many credits a user may spend a day."""
    with transaction() as session:
        view = _balance(body.user_id, ledger.set_daily_limit(session, body.user_id, body.daily_limit))
        audit.made(body.user_id)
    return reply(view)


@api.post("/graphs/<uuid:graph_id>/estimate", responses={200: GraphEstimate})
def estimate_graph(path: GraphPath) -> Response:
    """Estimate what a run of a graph would cost, before it runs. The body may be left out."""
    body = optional_body(EstimateGraph)
    with transaction() as session:
        found = estimates.estimate(session, owner_id(), path.graph_id, body.version, body.nodes_input_masks)
    most = [node.most for node in found.nodes]
    return reply(
        GraphEstimate(
            least=sum(node.least for node in found.nodes),
            most=None if None in most else sum(each or 0 for each in most),
            by_use=any(node.by_use for node in found.nodes),
            balance=found.balance,
            nodes=[
                NodeEstimate.model_validate(node, from_attributes=True) for node in found.nodes[: estimates.MOST_SHOWN]
            ],
            truncated=len(found.nodes) > estimates.MOST_SHOWN,
        )
    )


@hooks.post("/credits/top-ups", responses={201: CreditTransactionView})
def top_up_credits(body: NewTopUp) -> Response:
    """Give a user the credits that they paid for. Signed as Standard Webhooks say, and once for each `id`."""
    secret = settings().top_up_secret
    if secret is None:
        raise NotFound("this installation takes no top-ups")
    verify(Scheme.STANDARD, request.headers, request.get_data(), [secret])  # type: ignore[arg-type]
    audit.begin_signed("top_up_credits", body.user_id)
    with transaction() as session:
        return _given(ledger.top_up(session, body.user_id, body.amount, body.reason, body.id))


def _given(given: Given) -> Response:
    response = reply(_transaction(given.transaction), 201)
    if given.replayed:
        response.headers["Idempotent-Replay"] = "true"
    return response


def _balance(owner: UUID, found: Balance) -> CreditsView:
    return CreditsView(
        user_id=owner,
        balance=found.balance,
        held=found.held,
        available=found.available,
        spent_today=found.spent,
        daily_limit=found.daily_limit,
        low=ledger.is_low(found),
        enabled=settings().credits,
    )


def _transaction(one: CreditTransaction) -> CreditTransactionView:
    return CreditTransactionView(
        number=one.number,
        at=one.at,
        type=TransactionType(one.type),
        amount=one.amount,
        balance=one.balance,
        unpaid=one.unpaid,
        reason=one.reason,
        user_id=one.owner_id,
        made_by=one.made_by,
        run_id=one.run_id,
        node_id=one.node_id,
        index=one.idx,
        attempt=one.attempt,
        block=one.block,
    )


def _as_csv(items: list[CreditTransactionView]) -> str:
    """The page as CSV with a header. A text that a spreadsheet would compute is quoted with an apostrophe."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(CreditTransactionView.model_fields)
    for item in items:
        writer.writerow(map(_cell, item.model_dump(mode="json").values()))
    return written.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
