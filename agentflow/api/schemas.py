"""The JSON Schemas of what people write, for their editors. They belong to nobody: no key is needed."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from agentflow.api.blueprint import PREFIX, name_of_the_view
from agentflow.api.replies import json_response
from agentflow.graph.document_schema import document_schema

api = APIBlueprint(
    "schemas",
    __name__,
    url_prefix=PREFIX,
    abp_tags=[Tag(name="schemas", description="JSON Schemas, for editors.")],
    operation_id_callback=name_of_the_view,
)


@api.get("/schemas/graph", responses={200: {"description": "A JSON Schema, draft 2020-12."}})
def graph_schema() -> Response:
    """The JSON Schema of a graph's document; a document may name it as its `$schema`."""
    return json_response(document_schema())
