"""Names what an attempt did. `perform` turns everything that a block can return or raise into one of these."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agentflow.engine.codec import storable_text
from agentflow.engine.statuses import FailureReason
from agentflow.engine.waits import Asleep, Wait
from agentflow.engine.wording import spoken, words
from agentflow.errors import (
    AgentFlowError,
    EngineError,
    FailureKind,
    NodeFailure,
    NotAllowed,
    TimedOut,
    Transient,
    Unpaid,
)


@dataclass(frozen=True, slots=True)
class Completed:
    """The block went through to its end."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The block raised, yielded `error`, or broke a rule. `reason` is the kind of failure, or `timeout`.

    `after`: seconds before which trying again is of no use, where somebody said so. `trace`: where the block's bug is.
    """

    kind: FailureKind
    reason: str
    message: str
    after: float | None = None
    trace: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run was stopped, or the lease was lost: nothing of this attempt counts any more."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The block yielded a wait, or waits on: it is called again when that has come."""

    wait: Wait | Asleep


Outcome = Completed | Failed | Stopped | Waiting

_REASONS: Mapping[type[NodeFailure], str] = {
    TimedOut: "timeout",
    Unpaid: FailureReason.INSUFFICIENT_BALANCE,
    NotAllowed: FailureReason.MODERATION,
}
"""Reasons that are not the kind of failure."""

_MESSAGE_LIMIT = 10_000
"""Characters of an error message that are kept."""

_TRACE_LIMIT = 20_000
"""Characters of a traceback that are kept: its end."""

_TRACE_FRAMES = 50
"""Calls that a traceback shows, the innermost."""

_ENGINE = "agentflow.worker."
"""Modules whose calls stand above the block's in every traceback, and say nothing about it."""


def failure(error: BaseException) -> Failed:
    """The outcome for what a block raised.

    Our own errors carry their kind. Of the others, a connection that broke and a time that ran out are the outside's
    doing, and may pass; everything else is the block's bug.
    """
    if isinstance(error, NodeFailure):
        failed = _failed(error.kind, _reason(error), words(error))
        return replace(failed, after=error.after) if isinstance(error, Transient) else failed
    if isinstance(error, EngineError):
        return _failed("system", "system", words(error))
    if isinstance(error, AgentFlowError):
        return _failed("user", "user", words(error))
    kind: FailureKind = "transient" if isinstance(error, ConnectionError | TimeoutError) else "block"
    failed = _failed(kind, kind, words(error))
    return replace(failed, trace=_trace(error)) if kind == "block" else failed


def _reason(error: NodeFailure) -> str:
    return next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), error.kind)


def reported(value: Any) -> Failed:
    """The outcome for a block that yielded `value` on its pin `error`."""
    told = "" if value is None else spoken(value)
    return _failed("block", "block", told or "the block reported an error without a message")


def _failed(kind: FailureKind, reason: str, message: str) -> Failed:
    return Failed(kind, reason, storable_text(message[:_MESSAGE_LIMIT]))


def _trace(error: BaseException) -> str:
    """The traceback of what a block raised, from the block's own first call on."""
    first = error.__traceback__
    while first is not None and str(first.tb_frame.f_globals.get("__name__")).startswith(_ENGINE):
        first = first.tb_next
    lines = traceback.format_exception(type(error), error, first or error.__traceback__, limit=-_TRACE_FRAMES)
    return storable_text("".join(lines).rstrip()[-_TRACE_LIMIT:])
