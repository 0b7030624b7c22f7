"""`/openapi.json` and `/docs`: what can be asked here? The OpenAPI document, and Swagger UI to read and try it.

Everything is served from installed packages: the page needs no other server.
"""

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, current_app, redirect, send_from_directory
from werkzeug.wrappers import Response as AnyResponse

from agentflow.api.document import complete
from agentflow.api.replies import json_response

_OURS = Path(__file__).parent / "static"
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"

docs = Blueprint("docs", __name__)


@docs.get("/openapi.json")
def openapi() -> Response:
    """The OpenAPI document."""
    return json_response(complete(current_app.api_doc))  # type: ignore[attr-defined]  # a flask_openapi3.OpenAPI


@docs.get("/")
def home() -> AnyResponse:
    """Who opens the server's address in a browser is shown what can be asked."""
    return redirect("/docs")


@docs.get("/docs")
def page() -> Response:
    """Swagger UI."""
    response = send_from_directory(_OURS, "docs.html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@docs.get("/docs/start.js")
def start() -> Response:
    """The script that starts Swagger UI; a file of its own, because the page allows no inline script."""
    return send_from_directory(_OURS, "start.js")


@docs.get("/docs/swagger/<path:name>")
def swagger(name: str) -> Response:
    """Swagger UI's own files."""
    return send_from_directory(str(files("flask_openapi3_swagger") / "templates" / "swagger"), name, max_age=3600)
