"""Wraps the API calls about presets, as `Client.presets`."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from agentflow.client.http import Http, every
from agentflow.presets.schemas import PresetList, PresetView
from agentflow.schemas.runs import RunAccepted

Id = UUID | str


def given(
    inputs: Mapping[str, Any] | None,
    masks: Mapping[str, Mapping[str, Any]] | None,
    labels: Mapping[str, str] | None,
    priority: int | None,
) -> dict[str, Any]:
    """What a run is given, as the API takes it."""
    return {
        "inputs": dict(inputs or {}),
        "nodes_input_masks": {node: dict(pins) for node, pins in (masks or {}).items()},
        "labels": dict(labels or {}),
        "priority": priority,
    }


def wanted(
    inputs: Mapping[str, Any] | None,
    masks: Mapping[str, Mapping[str, Any]] | None,
    labels: Mapping[str, str] | None,
    priority: int | None,
    allow_missing_inputs: bool,
    credentials: Mapping[str, Id] | None = None,
) -> dict[str, Any]:
    """What a submission asks for, as the API takes it."""
    body = {**given(inputs, masks, labels, priority), "allow_missing_inputs": allow_missing_inputs}
    if credentials:
        body["credentials"] = {key: str(chosen) for key, chosen in credentials.items()}
    return body


class Presets:
    """Saved inputs of graphs."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        graph_id: Id,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        masks: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        credentials: Mapping[str, Id] | None = None,
    ) -> PresetView:
        """Save a preset. It is not retried once the API may have received it: that could save a second one.

        `version` and `priority` None: the graph's latest, and its own.
        """
        body = {
            "graph_id": str(graph_id),
            "name": name,
            "version": version,
            **given(inputs, masks, labels, priority),
            "credentials": {key: str(chosen) for key, chosen in (credentials or {}).items()},
        }
        return PresetView.model_validate(self._http.call("POST", "/presets", body=body, repeatable=False))

    def list(self, *, graph_id: Id | None = None, limit: int | None = None) -> Iterator[PresetView]:
        """Presets, the newest first; `graph_id`: of that graph only."""
        query = {"graph_id": str(graph_id) if graph_id else None}
        return islice(every(self._http, "/presets", PresetList.model_validate, query), limit)

    def get(self, preset_id: Id) -> PresetView:
        """A preset."""
        return PresetView.model_validate(self._http.call("GET", f"/presets/{preset_id}"))

    def change(self, preset_id: Id, **changes: Any) -> PresetView:
        """Change a preset: any of `name`, `version`, `inputs`, `nodes_input_masks`, `labels`, `priority`."""
        return PresetView.model_validate(self._http.call("PATCH", f"/presets/{preset_id}", body=changes))

    def delete(self, preset_id: Id) -> None:
        """Delete a preset. Its runs stay."""
        self._http.call("DELETE", f"/presets/{preset_id}", repeatable=False)

    def run(
        self,
        preset_id: Id,
        inputs: Mapping[str, Any] | None = None,
        *,
        masks: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        allow_missing_inputs: bool = False,
        credentials: Mapping[str, Id] | None = None,
        idempotency_key: str | None = None,
    ) -> RunAccepted:
        """Run a preset; what is given here is laid over it. For `idempotency_key`, see `Client.submit`."""
        body = wanted(inputs, masks, labels, priority, allow_missing_inputs, credentials)
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return RunAccepted.model_validate(
            self._http.call("POST", f"/presets/{preset_id}/runs", body=body, headers=headers)
        )
