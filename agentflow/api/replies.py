"""Makes responses of public models and of JSON values."""

from typing import Any

from flask import Response
from pydantic import BaseModel

from agentflow.engine.codec import dumps
from agentflow.schemas.json_text import json_text


def reply(model: BaseModel, status: int = 200) -> Response:
    """A public model as a JSON response."""
    return Response(json_text(model), status=status, mimetype="application/json")


def json_response(content: Any, status: int = 200) -> Response:
    """A JSON value as a response."""
    return Response(dumps(content), status=status, mimetype="application/json")
