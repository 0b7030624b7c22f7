"""How can a call fail? The API refuses it (`ApiError`), or does not answer (`Unreachable`)."""

from agentflow.errors import AgentFlowError
from agentflow.schemas.problems import TYPE_PREFIX, ProblemDocument, ProblemPlace


class ApiError(AgentFlowError):
    """The API answered with a problem.

    Attributes:
        status: the HTTP status.
        type: the problem's type, which never changes: `urn:agentflow:problem:…`.
        detail: what is wrong, for a person.
        errors: the places in the graph, where it is the graph.
    """

    def __init__(self, problem: ProblemDocument) -> None:
        super().__init__(problem.detail)
        self.status: int = problem.status
        self.type: str = problem.type
        self.detail: str = problem.detail
        self.errors: list[ProblemPlace] = problem.errors
        self.instance: str | None = problem.instance

    @property
    def slug(self) -> str:
        """The last part of the type: `not-found`, `graph-invalid`, ..."""
        return self.type.removeprefix(TYPE_PREFIX)


class Unreachable(AgentFlowError):
    """The API does not answer."""
