"""Serves `/openapi.json`, Swagger UI at `/docs`, and the JSON Schema of graph documents for editors.

These need no key: nothing here belongs to an owner. All files come from installed packages, not from other servers.
"""

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, current_app, send_from_directory
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from agentflow.api.blueprint import PREFIX, name_of_the_view
from agentflow.api.document import complete
from agentflow.api.replies import json_response
from agentflow.graph.schemas import document_schema

_OURS = Path(__file__).parent / "static"
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"

docs = Blueprint("docs", __name__)

api = APIBlueprint(
    "schemas",
    __name__,
    url_prefix=PREFIX,
    abp_tags=[Tag(name="schemas", description="JSON Schemas, for editors.")],
    operation_id_callback=name_of_the_view,
)


@docs.get("/openapi.json")
def openapi() -> Response:
    """The OpenAPI document."""
    return json_response(complete(current_app.api_doc))  # type: ignore[attr-defined]  # a flask_openapi3.OpenAPI


@docs.get("/")
@docs.get("/docs")
def page() -> Response:
    """Swagger UI, also at the bare address."""
    response = Response((_OURS / "docs.html").read_bytes(), mimetype="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@docs.get("/docs/start.js")
def start() -> Response:
    """The script that starts Swagger UI; a separate file, because the page allows no inline script."""
    return send_from_directory(_OURS, "start.js")


@docs.get("/docs/swagger/<path:name>")
def swagger(name: str) -> Response:
    """Swagger UI's own files."""
    return send_from_directory(str(files("flask_openapi3_swagger") / "templates" / "swagger"), name, max_age=3600)


@api.get("/schemas/graph", responses={200: {"description": "A JSON Schema, draft 2020-12."}})
def graph_schema() -> Response:
    """The JSON Schema of a graph's document; a document may name it as its `$schema`."""
    return json_response(document_schema())
