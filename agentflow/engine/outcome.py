"""What did an attempt do? `perform` turns everything that a block can return or raise into one of these."""

from dataclasses import dataclass, replace
from typing import Any

from agentflow.engine.codec import storable_text
from agentflow.engine.waits import Asleep, Wait
from agentflow.errors import AgentFlowError, EngineError, FailureKind, Interrupted, NodeFailure, TimedOut, Transient


@dataclass(frozen=True, slots=True)
class Completed:
    """The block went through to its end."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The block raised, yielded `error`, or broke a rule. `reason` is the kind of failure, or `timeout`.

    `after`: seconds before which trying again is of no use, where somebody said so.
    """

    kind: FailureKind
    reason: str
    message: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run was stopped, or the lease was lost: nothing of this attempt counts any more."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The block yielded a wait, or waits on: it is called again when that has come."""

    wait: Wait | Asleep


Outcome = Completed | Failed | Stopped | Waiting

_MESSAGE_LIMIT = 10_000
"""Characters of an error message that are kept."""


def failure(error: BaseException) -> Failed:
    """The outcome for what a block raised.

    Our own errors carry their kind. Of the others, a connection that broke and a time that ran out are the outside's
    doing, and may pass; everything else is the block's bug.
    """
    if isinstance(error, NodeFailure):
        failed = _failed(error.kind, "timeout" if isinstance(error, TimedOut) else error.kind, _words(error))
        return replace(failed, after=error.after) if isinstance(error, Transient) else failed
    if isinstance(error, MemoryError):
        return _failed("block", "block", "the block used more memory than a worker process may have")
    if isinstance(error, EngineError):
        return _failed("system", "system", _words(error))
    if isinstance(error, AgentFlowError):
        return _failed("user", "user", _words(error))
    text, name = _words(error), type(error).__name__
    kind: FailureKind = "transient" if isinstance(error, ConnectionError | TimeoutError) else "block"
    return _failed(kind, kind, f"{name}: {text}" if text else name)


def reported(value: Any) -> Failed:
    """The outcome for a block that yielded `value` on its pin `error`."""
    return _failed("block", "block", _words(value) or "the block reported an error without a message")


def _failed(kind: FailureKind, reason: str, message: str) -> Failed:
    return Failed(kind, reason, storable_text(message[:_MESSAGE_LIMIT]))


def _words(thing: Any) -> str:
    try:
        return str.strip(str(thing))  # a text of the block's own class may have a strip of its own
    except Interrupted:
        raise
    except BaseException as error:  # the block's own __str__
        return f"(its text cannot be had: {type(error).__name__})"
