"""How is a reply written? As JSON by the codec of values, so that every value comes out as it went in."""

from typing import Any

from flask import Response
from pydantic import BaseModel

from agentflow.engine.codec import dumps


def reply(model: BaseModel, status: int = 200) -> Response:
    """A public model as a JSON response."""
    return json_response(model.model_dump(mode="json"), status)


def json_response(content: Any, status: int = 200) -> Response:
    """`content`, which is JSON, as a response."""
    return Response(dumps(content), status=status, mimetype="application/json")
