"""Wraps every call of the HTTP API in a typed method.

Lists are iterators over all pages; `limit` ends them early. Methods raise `ApiError` and `Unreachable`.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID, uuid4

from agentflow.accounts.schemas import AuditEntryView, AuditList, Me
from agentflow.client import live, stream
from agentflow.client.accounts import Keys, Sessions, Users
from agentflow.client.credentials import Credentials
from agentflow.client.credits import Credits
from agentflow.client.graphs import Graphs
from agentflow.client.http import Http, every
from agentflow.client.notifications import DeadLetters, Notifications
from agentflow.client.presets import Presets, wanted
from agentflow.client.schedules import Schedules
from agentflow.client.triggers import Triggers
from agentflow.moderation.schemas import RefusedTextList, RefusedTextView
from agentflow.schemas.blocks import BlockInfo, BlockList, BlockResult
from agentflow.schemas.events import RunEvent
from agentflow.schemas.live import Update
from agentflow.schemas.reviews import ReviewList, ReviewView, SignalAccepted
from agentflow.schemas.runs import (
    MAX_WAIT,
    BulkCancelled,
    CancelAccepted,
    NodeExecutionList,
    NodeExecutionView,
    OutputItem,
    OutputList,
    RunAccepted,
    RunExplanation,
    RunList,
    RunSummary,
    RunView,
)

Id = UUID | str


class Client:
    """A client of one AgentFlow with one API key. A context manager; threads may share it.

    Args:
        url: the API's address, such as `http://127.0.0.1:8080`.
        key: the API key, `af_…`.
        timeout: seconds to wait for a reply.
        attempts: the most tries of a request that is safe to repeat.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 30.0, attempts: int = 5) -> None:
        self._http = Http(url, key, timeout=timeout, attempts=attempts)
        self.graphs = Graphs(self._http)
        self.presets = Presets(self._http)
        self.schedules = Schedules(self._http)
        self.triggers = Triggers(self._http)
        self.credentials = Credentials(self._http)
        self.keys = Keys(self._http)
        self.users = Users(self._http)
        self.sessions = Sessions(self._http)
        self.credits = Credits(self._http)
        self.notifications = Notifications(self._http)
        self.dead_letters = DeadLetters(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def me(self) -> Me:
        """Who has this client's key, and what it may be used for."""
        return Me.model_validate(self._http.call("GET", "/me"))

    def set_time_zone(self, name: str | None) -> Me:
        """Give the key's user a time zone, such as Europe/Paris; None: none, and UTC is used."""
        return Me.model_validate(self._http.call("PATCH", "/me", body={"time_zone": name}))

    def change_password(self, old: str, new: str) -> None:
        """Change one's own password. One's sessions end."""
        self._http.call("POST", "/me/password", body={"old": old, "new": new}, repeatable=False)

    def audit(self, *, user_id: Id | None = None, limit: int | None = None) -> Iterator[AuditEntryView]:
        """Who changed what, or was refused to, the newest first; `user_id`: for admins, of one user only."""
        query = {"user_id": str(user_id) if user_id else None}
        return islice(every(self._http, "/audit", AuditList.model_validate, query), limit)

    def refusals(self, *, user_id: Id | None = None, limit: int | None = None) -> Iterator[RefusedTextView]:
        """For admins: what moderation refused and is kept, the newest first; `user_id`: to one user only."""
        query = {"user_id": str(user_id) if user_id else None}
        return islice(every(self._http, "/moderation/refusals", RefusedTextList.model_validate, query), limit)

    def submit(
        self,
        graph_id: Id,
        inputs: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        masks: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        allow_missing_inputs: bool = False,
        credentials: Mapping[str, Id] | None = None,
        idempotency_key: str | None = None,
    ) -> RunAccepted:
        """Run a stored graph, by default its latest version. Missing required inputs are refused unless
        `allow_missing_inputs`. `credentials`: keys of the graph's `credentials_input_schema`, with ids of credentials.

        Without an `idempotency_key` one is made for this call, so that its retries run nothing twice.
        """
        body = {"version": version, **wanted(inputs, masks, labels, priority, allow_missing_inputs, credentials)}
        return self._submit(f"/graphs/{graph_id}/runs", body, idempotency_key)

    def run_and_wait(
        self,
        graph_id: Id,
        inputs: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        masks: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        allow_missing_inputs: bool = False,
        credentials: Mapping[str, Id] | None = None,
        idempotency_key: str | None = None,
    ) -> RunView:
        """`submit`, and the run once it has ended, however long that takes: a short one in one call."""
        body = {"version": version, **wanted(inputs, masks, labels, priority, allow_missing_inputs, credentials)}
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        query = {"wait": min(self._http.timeout / 2, MAX_WAIT)}
        got = self._http.call("POST", f"/graphs/{graph_id}/runs", body=body, headers=headers, query=query)
        return RunView.model_validate(got) if "ended_at" in got else self.wait(got["id"])

    def submit_inline(
        self,
        document: Mapping[str, Any],
        inputs: Mapping[str, Any] | None = None,
        *,
        masks: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        allow_missing_inputs: bool = False,
        credentials: Mapping[str, Id] | None = None,
        idempotency_key: str | None = None,
    ) -> RunAccepted:
        """Run a graph that comes with the call. For `idempotency_key`, see `submit`."""
        body = {"graph": dict(document), **wanted(inputs, masks, labels, priority, allow_missing_inputs, credentials)}
        return self._submit("/runs", body, idempotency_key)

    def _submit(self, path: str, body: dict[str, Any], key: str | None) -> RunAccepted:
        headers = {"Idempotency-Key": key or str(uuid4())}
        return RunAccepted.model_validate(self._http.call("POST", path, body=body, headers=headers))

    def get_run(self, run_id: Id) -> RunView:
        """A run, with inputs, outputs and counts."""
        return RunView.model_validate(self._http.call("GET", f"/runs/{run_id}"))

    def runs(
        self,
        *,
        status: str | None = None,
        graph_id: Id | None = None,
        labels: Mapping[str, str] | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
        parent: Id | None = None,
        roots: bool = False,
        limit: int | None = None,
    ) -> Iterator[RunSummary]:
        """Runs, the newest first. Times are ISO 8601 with a time zone; `parent`: only child runs of that run;
        `roots`: no child runs.
        """
        query = {
            "status": status,
            "parent": parent and str(parent),
            "roots": roots or None,
            "graph_id": graph_id and str(graph_id),
            "label": [f"{name}={value}" for name, value in (labels or {}).items()] or None,
            "created_after": created_after,
            "created_before": created_before,
        }
        return islice(every(self._http, "/runs", RunList.model_validate, query), limit)

    def explain(self, run_id: Id) -> RunExplanation:
        """Why a run does not go on."""
        return RunExplanation.model_validate(self._http.call("GET", f"/runs/{run_id}/explanation"))

    def nodes(
        self,
        run_id: Id,
        *,
        status: str | None = None,
        node: str | None = None,
        index: int | None = None,
        full: bool = False,
        limit: int | None = None,
    ) -> Iterator[NodeExecutionView]:
        """A run's node executions, by node and index. `full`: with long values."""
        query = {"status": status, "node": node, "index": index, "values": "full" if full else None}
        return islice(every(self._http, f"/runs/{run_id}/nodes", NodeExecutionList.model_validate, query), limit)

    def outputs(self, run_id: Id, *, name: str | None = None, limit: int | None = None) -> Iterator[OutputItem]:
        """The values of a run's output nodes, in order for each node."""
        return islice(every(self._http, f"/runs/{run_id}/outputs", OutputList.model_validate, {"name": name}), limit)

    def follow(self, run_id: Id, *, after: str | None = None) -> Iterator[RunEvent]:
        """The events of a run as they happen, over cuts of the connection, until it has ended.

        `after`: the id of the last one already seen.
        """
        return stream.events(self._http, run_id, after)

    def watch(self, *channels: str, after: Mapping[str, str] | None = None) -> Iterator[Update]:
        """What happens in several channels (`run:<id>`, `graph:<id>`, `runs`), over cuts of the connection.

        It ends when all channels are over, as those of runs are with the run. `after`: channel → the id of the last
        update already seen; without one, a run is told from its beginning, and several runs from now on.
        """
        return live.watch(self._http, channels, after or {})

    def events(self, run_id: Id, *, after: str | None = None) -> Iterator[RunEvent]:
        """The events of a run, live, until it has ended. `after`: the id of the last event already seen."""
        return stream.events(self._http, run_id, after)

    def wait(self, run_id: Id) -> RunView:
        """The run, once it has ended."""
        for _ in self.events(run_id):
            pass
        return self.get_run(run_id)

    def cancel(self, run_id: Id, reason: str | None = None) -> CancelAccepted:
        """Cancel a run. Idempotent."""
        body = {"reason": reason} if reason else None
        return CancelAccepted.model_validate(self._http.call("POST", f"/runs/{run_id}/cancel", body=body))

    def cancel_all(self, *, reason: str | None = None, **wanted: Any) -> BulkCancelled:
        """Cancel all open runs that fit `status`, `graph_id`, `labels`, `created_after`, `created_before`, or `all`."""
        body = {**wanted, **({"reason": reason} if reason else {})}
        return BulkCancelled.model_validate(self._http.call("POST", "/runs/cancel", body=body))

    def pause(self, run_id: Id) -> RunSummary:
        """Pause a run: nothing new starts, running node executions finish."""
        return RunSummary.model_validate(self._http.call("POST", f"/runs/{run_id}/pause"))

    def resume(self, run_id: Id) -> RunSummary:
        """Resume a paused run."""
        return RunSummary.model_validate(self._http.call("POST", f"/runs/{run_id}/resume"))

    def retry(self, run_id: Id) -> RunSummary:
        """Run again the unhandled failures and the cancelled node executions of a run."""
        return RunSummary.model_validate(self._http.call("POST", f"/runs/{run_id}/retry"))

    def fork(self, run_id: Id, from_node: str, inputs: Mapping[str, Any] | None = None) -> RunSummary:
        """Start a new run at a node, with everything upstream of it copied. `inputs` replaces values of its pins."""
        body = {"from_node": from_node, "inputs": dict(inputs or {})}
        return RunSummary.model_validate(self._http.call("POST", f"/runs/{run_id}/fork", body=body))

    def signal(self, run_id: Id, name: str, payload: Any = None) -> SignalAccepted:
        """Send an external event to a run."""
        path = f"/runs/{run_id}/signals/{quote(name, safe='')}"
        return SignalAccepted.model_validate(self._http.call("POST", path, body={"payload": payload}))

    def reviews(
        self, *, status: str | None = None, run_id: Id | None = None, limit: int | None = None
    ) -> Iterator[ReviewView]:
        """Reviews, the newest first; by default those that are waiting."""
        query = {"status": status, "run_id": run_id and str(run_id)}
        return islice(every(self._http, "/reviews", ReviewList.model_validate, query), limit)

    def review(self, review_id: Id) -> ReviewView:
        """One review."""
        return ReviewView.model_validate(self._http.call("GET", f"/reviews/{review_id}"))

    def approve(
        self, review_id: Id, message: str = "", *, edited: tuple[Any] | None = None, rest: bool = False
    ) -> ReviewView:
        """Approve the data as it is, or as `edited` (a one-tuple). `rest`: also all further reviews of this node."""
        body = {"message": message, "rest": rest, **({"data": edited[0]} if edited is not None else {})}
        return ReviewView.model_validate(self._http.call("POST", f"/reviews/{review_id}/approve", body=body))

    def reject(self, review_id: Id, message: str = "") -> ReviewView:
        """Reject the data."""
        body = {"message": message}
        return ReviewView.model_validate(self._http.call("POST", f"/reviews/{review_id}/reject", body=body))

    def execute_block(self, block_id: str, inputs: Mapping[str, Any] | None = None, wait: float = 20.0) -> BlockResult:
        """Run a block by itself, and wait up to `wait` seconds for its end."""
        body = {"inputs": dict(inputs or {}), "wait": wait}
        return BlockResult.model_validate(self._http.call("POST", f"/blocks/{block_id}/execute", body=body))

    def blocks(self) -> list[BlockInfo]:
        """All blocks, by name."""
        return BlockList.model_validate(self._http.call("GET", "/blocks")).items

    def block(self, block_id: str) -> BlockInfo:
        """One block."""
        return BlockInfo.model_validate(self._http.call("GET", f"/blocks/{block_id}"))
