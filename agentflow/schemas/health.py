"""Defines the replies of the health checks."""

from agentflow.schemas.base import Reply


class Health(Reply):
    """The process answers."""

    status: str = "ok"
    version: str


class Readiness(Reply):
    """Whether requests can be served; `checks` says what is wrong in words, or "ok"."""

    ready: bool
    checks: dict[str, str]
