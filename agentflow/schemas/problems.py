"""What does an error look like? An RFC 9457 problem document, with the places where a graph is wrong."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from agentflow.schemas.base import Reply

MEDIA_TYPE = "application/problem+json"

TYPE_PREFIX = "urn:agentflow:problem:"
"""Every problem's `type` is this and a slug that never changes."""


def _writable(text: Any) -> Any:
    """A wrong name is told as it came, but half a surrogate pair in it has no UTF-8 form: it reads as an escape."""
    return text.encode(errors="backslashreplace").decode() if isinstance(text, str) else text


_Told = Annotated[str, BeforeValidator(_writable)]


class ProblemPlace(Reply):
    """One thing that is wrong, and where: node and pin are null where it concerns the whole."""

    message: _Told
    node: _Told | None = None
    pin: _Told | None = None
    severity: Literal["error", "warning"] = "error"


class ProblemDocument(Reply):
    """An error, as `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: _Told
    errors: list[ProblemPlace] = []
    instance: str | None = None

    @classmethod
    def read(cls, status: int, content: Any) -> "ProblemDocument":
        """The problem in a reply's JSON, also where a proxy on the way answered in another form."""
        if isinstance(content, dict) and {"type", "title", "status", "detail"} <= content.keys():
            return cls.model_validate(content)
        return cls(type="about:blank", title=f"HTTP {status}", status=status, detail=str(content)[:500])
