"""Defines every error that AgentFlow raises on purpose, as one tree.

    AgentFlowError
    ├── ClientError                 the caller's mistake: a 4xx; nothing was stored
    │   ├── Malformed               the request is not what the API takes
    │   ├── Unauthenticated         no API key or session, or an unknown one
    │   ├── Forbidden               the key, or its user's role, does not allow it
    │   ├── PaymentRequired         the owner has no credits for what can cost some
    │   ├── NotFound                no such object, or it is someone else's
    │   ├── Conflict                the object's state forbids it
    │   │   ├── AlreadyEnded        a run that has ended cannot be changed
    │   │   └── AtLimit             as many runs of the graph are open as may be
    │   ├── IdempotencyMismatch     the same Idempotency-Key came with another request
    │   ├── TooLarge                a body, a graph or a value exceeds its limit
    │   ├── Unsupported             a body of a type that is not taken there
    │   ├── TooMany                 a rate or a count exceeds its limit
    │   └── GraphInvalid            the graph or its inputs are wrong: lists all problems with their places
    ├── NodeFailure                 ends a node execution FAILED (or tries it again); has a `kind`
    │   ├── BadInput                user: the inputs are wrong; a retry is useless
    │   ├── BlockBug                block: the block broke its own contract
    │   ├── Transient               transient: a retry may succeed (timeouts, 429, 5xx, connection)
    │   ├── NotAllowed              user: moderation refused what the node gives
    │   ├── TimedOut                transient: the attempt exceeded its timeout
    │   ├── Unpaid                  user: the owner's credits do not suffice; the whole run ends
    │   └── SystemFault             system: the engine or a worker failed, not the block
    ├── Interrupted                 stops a running block (a BaseException, so that blocks do not swallow it)
    └── EngineError                 a fault on our side: a 5xx
        ├── IllegalTransition       a status change that the state diagram does not have
        ├── WrongSchema             the database's schema is not this version's
        ├── Refused                 PostgreSQL answers but rejects the login; waiting does not help
        ├── AlreadyRunning          another process runs a local stack from this data directory
        └── Unavailable             PostgreSQL or the broker cannot be reached
            └── Busy                all slots are taken; nothing is broken

A class's docstring is its default message. `schemas/problem_kinds.py` maps each class to an HTTP status; a test checks
that none is missing.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

_LONGEST_LINE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where.

    Attributes:
        message: what is wrong, for a person.
        node: the node's id; None if it concerns the whole graph.
        pin: the pin's name; None if it concerns the whole node.
        severity: "error" stops a save or a submission, "warning" does not.
        missing: a block or pin that the graph needs does not exist here. An import stores the graph all the same.
    """

    message: str
    node: str | None = None
    pin: str | None = None
    severity: Literal["error", "warning"] = "error"
    missing: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The public fields."""
        return {key: value for key, value in asdict(self).items() if key != "missing"}


class AgentFlowError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        return str(self.args[0])


class ClientError(AgentFlowError):
    """The request cannot be carried out as it is."""

    def __init__(self, message: str | None = None, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @property
    def in_a_line(self) -> str:
        """The message with the places of its errors, in 1,000 characters at most: for a list of what was refused."""
        places = [
            ".".join(part for part in (problem.node, problem.pin) if part) + f": {problem.message}"
            if problem.node is not None
            else problem.message
            for problem in self.problems
            if problem.severity == "error"
        ]
        return "; ".join([self.message, *places])[:_LONGEST_LINE]


class Malformed(ClientError):
    """The request is not what this endpoint takes."""


class Unauthenticated(ClientError):
    """An API key is needed: send it as `Authorization: Bearer <key>`, or sign in."""


class Forbidden(ClientError):
    """This key or session may not do that."""


class PaymentRequired(ClientError):
    """There are no credits for this."""


class NotFound(ClientError):
    """There is no such thing here."""


class Conflict(ClientError):
    """The state of the thing does not allow this."""


class AlreadyEnded(Conflict):
    """The run has ended; it cannot be changed any more."""


class AtLimit(Conflict):
    """As many runs of the graph are open as may be at the same time."""


class IdempotencyMismatch(ClientError):
    """This Idempotency-Key was used before with another request."""


class TooLarge(ClientError):
    """This is larger than the limit."""


class Unsupported(ClientError):
    """A body of this type is not taken here."""


class TooMany(ClientError):
    """There are too many of these, or they come too fast."""

    def __init__(self, message: str | None = None, *, after: int | None = None) -> None:
        """`after`: whole seconds after which it may be tried again; None: soon."""
        super().__init__(message)
        self.after = after


class GraphInvalid(ClientError):
    """The graph is not valid."""


FailureKind = Literal["user", "block", "transient", "system"]


class NodeFailure(AgentFlowError):
    """The node execution failed."""

    kind: ClassVar[FailureKind] = "block"


class BadInput(NodeFailure):
    """The block was given inputs that it cannot work with."""

    kind = "user"


class NoSuchHost(BadInput):
    """There is no host of that name, or a resolver says so for a while."""


class Ambiguous(BadInput):
    """Several credentials fit, and none is named."""


class NotAllowed(NodeFailure):
    """Moderation refused what the node gives."""

    kind = "user"


class BlockBug(NodeFailure):
    """The block did something that its own contract forbids."""

    kind = "block"


class Transient(NodeFailure):
    """Something outside failed; it may work the next time."""

    kind = "transient"

    def __init__(self, message: str | None = None, *, after: float | None = None) -> None:
        """`after`: seconds to wait before a retry, as the remote service asked (Retry-After); None: it did not say."""
        super().__init__(message)
        self.after = after


class TimedOut(Transient):
    """The attempt ran longer than its timeout allows."""


class Unpaid(NodeFailure):
    """The credits do not suffice for this block."""

    kind = "user"


class SystemFault(NodeFailure):
    """The engine or a worker failed while the block ran."""

    kind = "system"


class Interrupted(BaseException):
    """The run was stopped while this block ran."""


class EngineError(AgentFlowError):
    """AgentFlow itself is not in order."""


class IllegalTransition(EngineError):
    """This status cannot follow that one."""


class WrongSchema(EngineError):
    """The database's schema is not the one that this version of AgentFlow needs."""


class Refused(EngineError):
    """PostgreSQL does not let us in."""


class AlreadyRunning(EngineError):
    """A local stack already runs from this data directory."""


class Unavailable(EngineError):
    """PostgreSQL or the broker cannot be reached."""


class Busy(Unavailable):
    """All places for this are taken; try again in a moment."""
