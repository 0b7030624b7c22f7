"""Wraps the API calls about triggers, as `Client.triggers`."""

from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from agentflow.client.http import Http, every
from agentflow.triggers.schemas import (
    DeliveryLine,
    DeliveryList,
    DeliveryView,
    HookAnswer,
    TriggerList,
    TriggerMade,
    TriggerView,
)

Id = UUID | str


class Triggers:
    """What happens when other systems send webhooks."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        name: str,
        *,
        graph_id: Id | None = None,
        preset_id: Id | None = None,
        scheme: str = "standard",
        secret: str | None = None,
        **more: Any,
    ) -> TriggerMade:
        """Make a trigger of a graph, of a preset, or with `signal`; `more`: further fields of the API's `NewTrigger`.

        The reply has its address, and its secret if none was given: they are shown this once. It is not retried once
        the API may have received it: that could make a second one.
        """
        body = {
            "name": name,
            "graph_id": graph_id and str(graph_id),
            "preset_id": preset_id and str(preset_id),
            "scheme": scheme,
            "secret": secret,
            **more,
        }
        return TriggerMade.model_validate(self._http.call("POST", "/triggers", body=body, repeatable=False))

    def list(self, *, graph_id: Id | None = None, limit: int | None = None) -> Iterator[TriggerView]:
        """Triggers, the newest first; `graph_id`: of that graph only."""
        query = {"graph_id": str(graph_id) if graph_id else None}
        return islice(every(self._http, "/triggers", TriggerList.model_validate, query), limit)

    def get(self, trigger_id: Id) -> TriggerView:
        """A trigger."""
        return TriggerView.model_validate(self._http.call("GET", f"/triggers/{trigger_id}"))

    def change(self, trigger_id: Id, **changes: Any) -> TriggerView:
        """Change a trigger: any field of the API's `ChangeTrigger`."""
        return TriggerView.model_validate(self._http.call("PATCH", f"/triggers/{trigger_id}", body=changes))

    def pause(self, trigger_id: Id, reason: str | None = None) -> TriggerView:
        """Let a trigger refuse what is delivered, until it is resumed."""
        body = {"reason": reason} if reason else None
        return TriggerView.model_validate(self._http.call("POST", f"/triggers/{trigger_id}/pause", body=body))

    def resume(self, trigger_id: Id) -> TriggerView:
        """Let a paused trigger take what is delivered again."""
        return TriggerView.model_validate(self._http.call("POST", f"/triggers/{trigger_id}/resume"))

    def rotate(
        self, trigger_id: Id, what: str = "token", *, secret: str | None = None, former_seconds: int = 86_400
    ) -> TriggerMade:
        """Give a trigger another `token` or `secret`. It is not retried once the API may have received it."""
        body = {"what": what, "secret": secret, "former_seconds": former_seconds}
        path = f"/triggers/{trigger_id}/rotate"
        return TriggerMade.model_validate(self._http.call("POST", path, body=body, repeatable=False))

    def delete(self, trigger_id: Id) -> None:
        """Delete a trigger and the list of its deliveries. Its runs stay."""
        self._http.call("DELETE", f"/triggers/{trigger_id}", repeatable=False)

    def deliveries(
        self, trigger_id: Id, *, outcome: str | None = None, limit: int | None = None
    ) -> Iterator[DeliveryLine]:
        """What was delivered to a trigger and what it did, the newest first."""
        path = f"/triggers/{trigger_id}/deliveries"
        return islice(every(self._http, path, DeliveryList.model_validate, {"outcome": outcome}), limit)

    def delivery(self, trigger_id: Id, delivery_id: Id) -> DeliveryView:
        """A delivery with its payload."""
        path = f"/triggers/{trigger_id}/deliveries/{delivery_id}"
        return DeliveryView.model_validate(self._http.call("GET", path))

    def redeliver(self, trigger_id: Id, delivery_id: Id) -> HookAnswer:
        """Deliver again what was delivered once. It is not retried once the API may have received it."""
        path = f"/triggers/{trigger_id}/deliveries/{delivery_id}/redeliver"
        return HookAnswer.model_validate(self._http.call("POST", path, repeatable=False))
