"""Defines requests and replies about credits."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field, StrictBool

from agentflow.credits.store import MOST
from agentflow.credits.tables import TransactionType
from agentflow.graph.costs import CostType
from agentflow.graph.json_values import only_a_number
from agentflow.schemas.base import Page, PageQuery, Reply, Request
from agentflow.schemas.runs import Masks

_ONLY_A_NUMBER = BeforeValidator(only_a_number)
"""It stands behind the bounds: before them, the JSON Schema would not show these. 2.0 is a whole number there."""

Amount = Annotated[int, Field(ge=1, le=MOST, description="Credits; 1 is 0.01 US dollars."), _ONLY_A_NUMBER]
"""A number of credits that is given."""

Line = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
"""Text of one line that is not blank."""


class CreditsQuery(Request):
    """Whose credits."""

    user_id: UUID | None = Field(None, description="For admins: another user's; left out: your own.")


class CreditsView(Reply):
    """What a user has."""

    user_id: UUID
    balance: int = Field(description="The sum of the user's transactions.")
    held: int = Field(description="Of the balance: held back for node executions that run.")
    available: int = Field(description="The balance without what is held back.")
    spent_today: int = Field(description="Used today (UTC).")
    daily_limit: int | None = Field(None, description="Credits that they may spend a day; null: any.")
    low: StrictBool = Field(description="Whether the balance is below what the installation calls low.")
    enabled: StrictBool = Field(description="Whether this installation takes credits for what runs cost.")


class CreditTransactionView(Reply):
    """One change of a balance: below 0 it takes, above 0 it gives."""

    number: int = Field(description="Of the user's transactions, from 1.")
    at: datetime
    type: TransactionType
    amount: int
    balance: int = Field(description="After it.")
    unpaid: int = Field(0, description="Of a price: what the balance did not cover.")
    reason: str
    user_id: UUID
    made_by: UUID | None = Field(None, description="The admin who gave it.")
    run_id: UUID | None = Field(None, description="The node execution that it is for.")
    node_id: str | None = None
    index: int | None = None
    attempt: int | None = None
    block: str | None = None


class CreditTransactionList(Page):
    """Transactions of a user, the newest first."""

    items: list[CreditTransactionView]


class CreditTransactionsQuery(PageQuery):
    """Whose transactions."""

    user_id: UUID | None = Field(None, description="For admins: another user's; left out: your own.")


class NewGrant(Request):
    """Credits to be given to a user."""

    user_id: UUID
    amount: Amount
    reason: Line
    type: Literal["GRANT", "REFUND"] = Field("GRANT", description="REFUND: given back for what was paid.")


class NewTopUp(Request):
    """Credits that a user paid for."""

    id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")] = Field(
        description="The payment's: it counts once, however often it is delivered."
    )
    user_id: UUID
    amount: Amount
    reason: Line = "top-up"


class CreditLimit(Request):
    """What a user may spend a day."""

    user_id: UUID
    daily_limit: Annotated[int, Field(ge=0, le=MOST), _ONLY_A_NUMBER] | None = Field(
        description="Credits a day (UTC); null: as many as the installation lets everybody."
    )


class EstimateGraph(Request):
    """Estimate what a run would cost."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1), _ONLY_A_NUMBER] | None = Field(
        None, description="null: the latest."
    )
    nodes_input_masks: Masks = Field(default_factory=dict, description="{node id: {pin: value}}, as of a run.")


class NodeEstimate(Reply):
    """What a node costs each time that it runs."""

    path: list[str] = Field(description="The ids of the sub-graph nodes above it, and its own.")
    block: str
    types: list[CostType] = Field(description="What it may be counted by.")
    least: int = Field(description="Credits that are held back before it runs, at least.")
    most: int | None = Field(None, description="At most; null: that depends on what comes over its links.")
    by_use: bool = Field(description="It is paid, too or only, by what it uses.")


class GraphEstimate(Reply):
    """What a run would cost if each node ran once."""

    least: int
    most: int | None = Field(None, description="Null: that depends on what comes over the links of some node.")
    by_use: bool = Field(description="Some nodes are paid by what they use.")
    balance: int
    nodes: list[NodeEstimate] = Field(description="Those that can cost something, at most 1,000 of them.")
    truncated: bool = False
