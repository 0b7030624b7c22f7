"""Serves `/api/v1/graphs`: store, read, validate and delete graphs."""

from uuid import UUID

from flask import Response, url_for
from pydantic import BaseModel

from agentflow.api import audit
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.replies import json_response, reply
from agentflow.schemas.base import PageQuery
from agentflow.schemas.graphs import (
    GraphDocument,
    GraphInputs,
    GraphList,
    GraphQuery,
    GraphSaved,
    GraphSummary,
    SaveQuery,
    ValidationReport,
    VersionList,
    VersionSummary,
)
from agentflow.schemas.problems import places
from agentflow.services import graphs
from agentflow.services.cursors import PageRequest
from agentflow.services.graphs import Saved
from agentflow.services.transaction import transaction

api = blueprint("graphs", "Graphs and their versions. A version never changes.")


class GraphPath(BaseModel):
    """Which graph."""

    graph_id: UUID


@api.post("/graphs", responses={201: GraphSaved})
def create_graph(body: GraphDocument, query: SaveQuery) -> Response:
    """Store a new graph, and its sub-graphs with it.

    They get new ids; node ids stay as they are, and must be unique within the graph. An export of another system is
    stored even where blocks of it are missing here: then `valid` is false, and it cannot run.
    """
    with transaction() as session:
        saved = graphs.create(session, owner_id(), body.root, query.imported)
        audit.made(saved.id)
    return _saved(saved, 201)


@api.post("/graphs/validate", responses={200: ValidationReport})
def validate_graph(body: GraphDocument) -> Response:
    """Say everything that is wrong with a graph, without storing it."""
    with transaction() as session:
        problems = graphs.problems(session, owner_id(), body.root)
    valid = all(problem.severity == "warning" for problem in problems)
    return reply(ValidationReport(valid=valid, problems=places(problems)))


@api.post("/graphs/inputs", responses={200: GraphInputs})
def show_inputs(body: GraphDocument) -> Response:
    """Say what a run of a graph takes, without storing the graph."""
    return reply(GraphInputs(input_schema=graphs.inputs(body.root)))


@api.get("/graphs", responses={200: GraphList})
def list_graphs(query: PageQuery) -> Response:
    """List graphs, the newest first."""
    with transaction() as session:
        heads, cursor = graphs.page(session, owner_id(), PageRequest(query.after, query.limit))
    items = [GraphSummary.model_validate({**head._asdict(), "version": head.latest_version}) for head in heads]
    return reply(GraphList(items=items, next_cursor=cursor))


@api.get("/graphs/<uuid:graph_id>", responses={200: GraphDocument})
def get_graph(path: GraphPath, query: GraphQuery) -> Response:
    """A graph's document, with the schemas of its inputs and outputs."""
    with transaction() as session:
        return json_response(graphs.get(session, owner_id(), path.graph_id, query.version))


@api.get("/graphs/<uuid:graph_id>/export", responses={200: GraphDocument})
def export_graph(path: GraphPath, query: GraphQuery) -> Response:
    """A graph's document for others: without secrets, with new ids of graphs, nodes and links."""
    with transaction() as session:
        return json_response(graphs.export(session, owner_id(), path.graph_id, query.version))


@api.put("/graphs/<uuid:graph_id>", responses={200: GraphSaved, 201: GraphSaved})
def replace_graph(path: GraphPath, body: GraphDocument, query: SaveQuery) -> Response:
    """Store a new version: 201. The document of the latest version again: 200, and nothing is stored."""
    with transaction() as session:
        saved = graphs.replace(session, owner_id(), path.graph_id, body.root, query.imported)
    return _saved(saved, 201 if saved.created else 200)


@api.get("/graphs/<uuid:graph_id>/versions", responses={200: VersionList})
def list_versions(path: GraphPath, query: PageQuery) -> Response:
    """List a graph's versions, the newest first."""
    with transaction() as session:
        lines, cursor = graphs.versions(session, owner_id(), path.graph_id, PageRequest(query.after, query.limit))
    items = [VersionSummary(**line._asdict()) for line in lines]
    return reply(VersionList(items=items, next_cursor=cursor))


@api.delete("/graphs/<uuid:graph_id>", responses={204: None})
def delete_graph(path: GraphPath) -> Response:
    """Delete a graph, unless runs of it are open (409). Its ended runs stay."""
    with transaction() as session:
        graphs.delete(session, owner_id(), path.graph_id)
    return Response(status=204)


def _saved(saved: Saved, status: int) -> Response:
    response = reply(
        GraphSaved(
            id=saved.id,
            version=saved.version,
            name=saved.name,
            created=saved.created,
            valid=saved.valid,
            warnings=places(saved.warnings),
        ),
        status,
    )
    response.headers["Location"] = url_for("graphs.get_graph", graph_id=saved.id, version=saved.version)
    return response
