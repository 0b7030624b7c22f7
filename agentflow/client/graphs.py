"""Wraps the API calls about graphs, as `Client.graphs`."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from uuid import UUID

from agentflow.client.http import Http, every
from agentflow.credits.schemas import GraphEstimate
from agentflow.schemas.graphs import (
    GraphInputs,
    GraphList,
    GraphSaved,
    GraphSummary,
    ValidationReport,
    VersionList,
    VersionSummary,
)

Id = UUID | str


class Graphs:
    """The graphs of one AgentFlow."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(self, document: Mapping[str, Any], *, imported: bool | None = None) -> GraphSaved:
        """Store a new graph. It is not retried once the API may have received it: that could store a second one.

        `imported`: another system exported it, so store it even if blocks are missing; None: the document tells.
        """
        query = {"import": imported}
        return GraphSaved.model_validate(
            self._http.call("POST", "/graphs", body=dict(document), query=query, repeatable=False)
        )

    def replace(self, graph_id: Id, document: Mapping[str, Any]) -> GraphSaved:
        """Store a new version, unless the document is unchanged."""
        return GraphSaved.model_validate(self._http.call("PUT", f"/graphs/{graph_id}", body=dict(document)))

    def get(self, graph_id: Id, version: int | None = None) -> dict[str, Any]:
        """A graph's document, by default of its latest version, with the schemas of its inputs and outputs."""
        found: dict[str, Any] = self._http.call("GET", f"/graphs/{graph_id}", query={"version": version})
        return found

    def export(self, graph_id: Id, version: int | None = None) -> dict[str, Any]:
        """A graph's document for sharing: without secrets, with new ids."""
        found: dict[str, Any] = self._http.call("GET", f"/graphs/{graph_id}/export", query={"version": version})
        return found

    def list(self, *, limit: int | None = None) -> Iterator[GraphSummary]:
        """Graphs, the newest first."""
        return islice(every(self._http, "/graphs", GraphList.model_validate, {}), limit)

    def versions(self, graph_id: Id, *, limit: int | None = None) -> Iterator[VersionSummary]:
        """A graph's versions, the newest first."""
        return islice(every(self._http, f"/graphs/{graph_id}/versions", VersionList.model_validate, {}), limit)

    def delete(self, graph_id: Id) -> None:
        """Delete a graph that has no open runs."""
        self._http.call("DELETE", f"/graphs/{graph_id}", repeatable=False)

    def validate(self, document: Mapping[str, Any]) -> ValidationReport:
        """Everything that is wrong with a graph, without storing it."""
        return ValidationReport.model_validate(self._http.call("POST", "/graphs/validate", body=dict(document)))

    def inputs(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """JSON Schema of what a run of a graph takes, without storing the graph."""
        found = GraphInputs.model_validate(self._http.call("POST", "/graphs/inputs", body=dict(document)))
        return found.input_schema

    def estimate(
        self, graph_id: Id, *, version: int | None = None, masks: Mapping[str, Mapping[str, Any]] | None = None
    ) -> GraphEstimate:
        """What a run would cost if each node ran once."""
        body = {"version": version, "nodes_input_masks": {node: dict(pins) for node, pins in (masks or {}).items()}}
        return GraphEstimate.model_validate(self._http.call("POST", f"/graphs/{graph_id}/estimate", body=body))
