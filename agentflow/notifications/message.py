"""What a channel sends: one message, of one notification or of several, in every form that a channel may need."""

from dataclasses import dataclass, field
from typing import Any

from agentflow.errors import BadInput


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Attributes:
        id: the same for each try at it, so that a receiver can recognise it.
        type: the kind of its notification, `digest` or `test`.
        timestamp: when the newest of its notifications was written, in ISO 8601.
        subject: one line.
        text: for people, as plain text.
        html: the same as HTML.
        data: for programs: JSON.
        unsubscribe: an address that ends messages like it, over this channel; None: there is none.
    """

    id: str
    type: str
    timestamp: str
    subject: str
    text: str
    html: str
    data: dict[str, Any] = field(default_factory=dict)
    unsubscribe: str | None = None


class ReceiverGone(BadInput):
    """The receiver says that it will take nothing any more."""
