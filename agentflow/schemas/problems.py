"""What does an error look like? An RFC 9457 problem document, with the places where a graph is wrong."""

from typing import Any, Literal

from agentflow.schemas.base import Reply

MEDIA_TYPE = "application/problem+json"

TYPE_PREFIX = "urn:agentflow:problem:"
"""Every problem's `type` is this and a slug that never changes."""


class ProblemPlace(Reply):
    """One thing that is wrong, and where: node and pin are null where it concerns the whole."""

    message: str
    node: str | None = None
    pin: str | None = None
    severity: Literal["error", "warning"] = "error"


class ProblemDocument(Reply):
    """An error, as `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemPlace] = []
    instance: str | None = None

    @classmethod
    def read(cls, status: int, content: Any) -> "ProblemDocument":
        """The problem in a reply's JSON, also where a proxy on the way answered in another form."""
        if isinstance(content, dict) and {"type", "title", "status", "detail"} <= content.keys():
            return cls.model_validate(content)
        return cls(type="about:blank", title=f"HTTP {status}", status=status, detail=str(content)[:500])
