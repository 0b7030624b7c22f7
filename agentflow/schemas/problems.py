"""Defines the error reply: an RFC 9457 problem document, with the places where a graph is wrong."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator

from agentflow.errors import Problem
from agentflow.schemas.base import Reply

MEDIA_TYPE = "application/problem+json"

TYPE_PREFIX = "urn:agentflow:problem:"
"""Every problem's `type` is this prefix and a slug that never changes."""


NO_PROBLEM: Final = "about:blank"
"""The type for a reply that is not AgentFlow's: a proxy or another server sent it."""

MAX_PLACES: Final = 1000
"""The most places that one reply names."""

MAX_TEXT: Final = 500
"""The most characters of a message or name in it; longer ones are cut."""


def _printable(text: Any) -> Any:
    """Cut a long text, and escape half surrogate pairs, which have no UTF-8 form."""
    if not isinstance(text, str):
        return text
    short = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"
    return short.encode(errors="backslashreplace").decode()


_Text = Annotated[str, BeforeValidator(_printable)]


class ProblemPlace(Reply):
    """One thing that is wrong, and where: node and pin are null where it concerns the whole."""

    message: _Text
    node: _Text | None = None
    pin: _Text | None = None
    severity: Literal["error", "warning"] = "error"


def places(problems: Sequence[Problem]) -> list[ProblemPlace]:
    """The first `MAX_PLACES` problems, errors before warnings, and the number of further ones."""
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
    detail: _Text
    errors: list[ProblemPlace] = []
    instance: str | None = None

    @classmethod
    def read(cls, status: int, content: Any) -> "ProblemDocument":
        """The problem in a reply's JSON; made up from the status if a proxy answered in another form."""
        if isinstance(content, dict) and {"type", "title", "status", "detail"} <= content.keys():
            return cls.model_validate(content)
        return cls(type=NO_PROBLEM, title=f"HTTP {status}", status=status, detail=str(content)[:500])
