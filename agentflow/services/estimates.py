"""Refuses submissions that nobody can pay for, and estimates what a run of a stored graph costs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.credentials import granting
from agentflow.credentials import store as stored_credentials
from agentflow.credentials.tables import StoredCredential
from agentflow.credits import estimates, ledger
from agentflow.credits.estimates import Estimate, Lookup, Priced
from agentflow.credits.model_prices import model_prices
from agentflow.errors import BadInput, GraphInvalid, NotFound
from agentflow.graph.catalogue import BlockSpec
from agentflow.graph.plan import Plan
from agentflow.graph.scoped_masks import Masks
from agentflow.services.given import refuse_unstorable
from agentflow.services.plans import plan_of
from agentflow.settings import settings
from agentflow.storage import graphs as stored

MOST_SHOWN: Final = 1_000
"""Nodes that an estimate lists."""


class GraphCosts(NamedTuple):
    """What the nodes of a graph cost each time, and what its owner has."""

    nodes: list[Estimate]
    balance: int


def estimate(
    session: Session, owner_id: UUID, graph_id: UUID, version: int | None, masks: Mapping[str, Mapping[str, Any]]
) -> GraphCosts:
    """What a graph's nodes cost, with these masks.

    Raises:
        NotFound: the owner has no such graph, or the graph no such version.
        GraphInvalid: blocks of it are missing.
        TooLarge: a masked value is larger than a value may be.
    """
    refuse_unstorable({}, masks)
    head = stored.find(session, owner_id, graph_id)
    if head is None:
        raise NotFound(f"there is no graph {graph_id}")
    plan = plan_of(session, graph_id, version or head.latest_version)
    prices = model_prices(settings().model_prices)
    found = estimates.estimates(plan, masks, prices, _lookup(session, owner_id), _priced(session, owner_id))
    return GraphCosts(found, ledger.balance(session, owner_id).balance)


def refuse_unpayable(session: Session, owner_id: UUID, plan: Plan, masks: Masks) -> None:
    """Refuse a run of `plan` if it can cost something and its owner has nothing. Asks nothing while credits are off.

    Raises:
        PaymentRequired: so it is.
    """
    if not settings().credits:
        return
    if estimates.can_cost(plan, masks, _lookup(session, owner_id), _priced(session, owner_id)):
        ledger.refuse_without_credits(session, owner_id)


def _priced(session: Session, owner_id: UUID) -> Priced:
    """The owner's credentials are read once, when the first block asks that takes some."""
    own: list[Sequence[StoredCredential]] = []

    def price(spec: BlockSpec, given: Mapping[str, Any], later: Collection[str]) -> Mapping[str, Any]:
        if not granting.credential_pins(spec):
            return {}
        if not own:
            own.append(stored_credentials.every(session, owner_id))
        filled = dict(given)
        try:
            return granting.granted(spec, filled, own[0]).priced(spec, filled, later)
        except BadInput:  # a run of it fails there, and costs nothing
            return {pin.name: None for pin in granting.credential_pins(spec)}

    return price


def _lookup(session: Session, owner_id: UUID) -> Lookup:
    def look(graph_id: UUID, version: int | None) -> Plan | None:
        head = stored.find(session, owner_id, graph_id)
        if head is None:
            return None
        try:
            return plan_of(session, graph_id, version or head.latest_version)
        except (NotFound, GraphInvalid):  # a run of it fails, and costs nothing
            return None

    return look
