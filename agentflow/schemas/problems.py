"""What does an error look like? An RFC 9457 problem document, with the places where a graph is wrong."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator

from agentflow.errors import Problem
from agentflow.schemas.base import Reply

MEDIA_TYPE = "application/problem+json"

TYPE_PREFIX = "urn:agentflow:problem:"
"""Every problem's `type` is this and a slug that never changes."""


NO_PROBLEM: Final = "about:blank"
"""The type of what somebody else answered: a proxy on the way, or another server."""

MAX_PLACES: Final = 1000
"""Places that one answer names."""

MAX_TOLD: Final = 500
"""Characters of a message or a name in it: what is wrong with a text need not be told with the whole of it."""


def _told(text: Any) -> Any:
    """A wrong name is told as it came, if that is not long. Half a surrogate pair has no UTF-8 form: it is escaped."""
    if not isinstance(text, str):
        return text
    short = text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]}… ({len(text)} characters)"
    return short.encode(errors="backslashreplace").decode()


_Told = Annotated[str, BeforeValidator(_told)]


class ProblemPlace(Reply):
    """One thing that is wrong, and where: node and pin are null where it concerns the whole."""

    message: _Told
    node: _Told | None = None
    pin: _Told | None = None
    severity: Literal["error", "warning"] = "error"


def places(problems: Sequence[Problem]) -> list[ProblemPlace]:
    """The first `MAX_PLACES` of what is wrong, errors before warnings, and how many more there are."""
    if len(problems) > MAX_PLACES:
        problems = sorted(problems, key=lambda one: one.severity == "warning")
    found = [ProblemPlace(**problem.as_dict()) for problem in problems[:MAX_PLACES]]
    if more := problems[MAX_PLACES:]:
        severity = "error" if any(one.severity == "error" for one in more) else "warning"
        found.append(ProblemPlace(message=f"and {len(more)} more", severity=severity))
    return found


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
        return cls(type=NO_PROBLEM, title=f"HTTP {status}", status=status, detail=str(content)[:500])
