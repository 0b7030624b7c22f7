"""What did an attempt do? `perform` turns everything that a block can return or raise into one of these."""

from dataclasses import dataclass

from agentflow.errors import AgentFlowError, FailureKind, NodeFailure, TimedOut


@dataclass(frozen=True, slots=True)
class Completed:
    """The block went through to its end."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The block raised, yielded `error`, or broke a rule. `reason` is the kind of failure, or `timeout`."""

    kind: FailureKind
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run was stopped, or the lease was lost: nothing of this attempt counts any more."""


Outcome = Completed | Failed | Stopped

_MESSAGE_LIMIT = 10_000
"""Characters of an error message that are kept."""


def failure(error: BaseException) -> Failed:
    """The outcome for what a block raised. Our own errors carry their kind; everything else is the block's bug."""
    if isinstance(error, NodeFailure):
        reason = "timeout" if isinstance(error, TimedOut) else error.kind
        return Failed(error.kind, reason, error.message[:_MESSAGE_LIMIT])
    if isinstance(error, MemoryError):
        return Failed("block", "block", "the block used more memory than a worker process may have")
    if isinstance(error, AgentFlowError):
        return Failed("user", "user", error.message[:_MESSAGE_LIMIT])
    text = str(error).strip()
    name = type(error).__name__
    return Failed("block", "block", (f"{name}: {text}" if text else name)[:_MESSAGE_LIMIT])
