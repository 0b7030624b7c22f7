"""Wraps the API calls about credits, as `Client.credits`."""

from collections.abc import Iterator
from itertools import islice
from uuid import UUID, uuid4

from agentflow.client.http import Http, every
from agentflow.credits.schemas import CreditsView, CreditTransactionList, CreditTransactionView

Id = UUID | str


class Credits:
    """What users of one AgentFlow have, and what they have used."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def get(self, *, user_id: Id | None = None) -> CreditsView:
        """What the caller has; `user_id`: for admins, another user."""
        query = {"user_id": str(user_id) if user_id else None}
        return CreditsView.model_validate(self._http.call("GET", "/credits", query=query))

    def transactions(self, *, user_id: Id | None = None, limit: int | None = None) -> Iterator[CreditTransactionView]:
        """Transactions, the newest first; `user_id`: for admins, of another user."""
        query = {"user_id": str(user_id) if user_id else None}
        return islice(every(self._http, "/credits/transactions", CreditTransactionList.model_validate, query), limit)

    def grant(
        self, user_id: Id, amount: int, reason: str, *, refund: bool = False, idempotency_key: str | None = None
    ) -> CreditTransactionView:
        """Give a user credits; for admins.

        Without an `idempotency_key` one is made for this call, so that its retries give nothing twice.
        """
        body = {
            "user_id": str(user_id),
            "amount": amount,
            "reason": reason,
            "type": "REFUND" if refund else "GRANT",
        }
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return CreditTransactionView.model_validate(
            self._http.call("POST", "/credits/grants", body=body, headers=headers)
        )

    def set_daily_limit(self, user_id: Id, limit: int | None) -> CreditsView:
        """Set how many credits a user may spend a day; None: as many as the installation lets everybody. For admins."""
        body = {"user_id": str(user_id), "daily_limit": limit}
        return CreditsView.model_validate(self._http.call("PUT", "/credits/limit", body=body))
