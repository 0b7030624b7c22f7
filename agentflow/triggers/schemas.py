"""Defines requests and replies about triggers, and the answers to their webhooks."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from agentflow.engine.codec import dumps
from agentflow.engine.statuses import RunStatus
from agentflow.graph.json_values import only_a_number
from agentflow.schemas.base import Page, PageQuery, Reply, Request, ShortText
from agentflow.schemas.given import ChangedValues, KeptValues, ShownValues
from agentflow.schemas.problems import ProblemPlace
from agentflow.triggers.signatures import Scheme, check_secret
from agentflow.triggers.tables import Outcome
from agentflow.triggers.terms import BodyKind, Filter, SignalTerms, Source, Terms

MAX_WAIT: Final = 30
"""Seconds that an answer may wait for the end of a run."""

MAX_KEPT: Final = 1_000
"""Deliveries that stay listed, of one trigger."""

MAX_FORMER_SECONDS: Final = 7 * 86_400
"""Seconds for which a secret that was replaced may still count."""

MAX_FILTER: Final = 32 * 1024
"""Bytes of a filter as JSON."""

_MAX_SECRET: Final = 200  # characters
_MIN_SECRET: Final = 8


def _printable(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("a secret consists of printable ASCII characters")
    return secret


Secret = Annotated[SecretStr, Field(min_length=_MIN_SECRET, max_length=_MAX_SECRET), AfterValidator(_printable)]


def _small(given: Filter) -> Filter:
    """A filter is read at each delivery, before it is known from whom that is."""
    if len(dumps(given.model_dump())) > MAX_FILTER:
        raise ValueError(f"a filter takes at most {MAX_FILTER} bytes as JSON")
    return given


_SmallFilter = Annotated[Filter, AfterValidator(_small)]
_Wait = Annotated[int | None, Field(ge=0, le=MAX_WAIT)]
_WAIT_MEANS: Final = (
    "Seconds that the answer waits for the run's end, unless the request says otherwise (`Prefer: wait=…`); "
    "null: only if it does; 0: never."
)
_Keep = Annotated[int, Field(ge=1, le=MAX_KEPT)]
_NODE_MEANS: Final = "The node that gets the payload, of a block that a webhook feeds; null: the only such node."


class NewTrigger(Terms, KeptValues):
    """A trigger to make, of a graph or of a preset. One that sends signals needs neither."""

    name: ShortText = Field(min_length=1)
    graph_id: UUID | None = None
    preset_id: UUID | None = None
    node: ShortText | None = Field(None, description=_NODE_MEANS)
    filter: _SmallFilter = Field(default_factory=Filter)
    scheme: Scheme = Field(Scheme.STANDARD, description="How the sender signs what it sends.")
    secret: Secret | None = Field(
        None,
        description="What the sender signs with; null: one is made, which its sender must be told. Stripe and Slack "
        "make their own.",
    )
    wait: _Wait = Field(None, description=_WAIT_MEANS)
    keep: _Keep = Field(MAX_KEPT, description="Deliveries that stay listed.")

    _whole_numbers = field_validator("wait", "keep", mode="before")(only_a_number)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.graph_id is not None and self.preset_id is not None:
            raise ValueError("give either `graph_id` or `preset_id`")
        if self.signal is None and self.graph_id is None and self.preset_id is None:
            raise ValueError("give `graph_id` or `preset_id`: what is to run")
        if self.signal is not None and (self.preset_id is not None or self.begins_anything):
            raise ValueError("with `signal` no run begins, which could get anything: give `graph_id` at most")
        if self.preset_id is not None and self.version is not None:
            raise ValueError("the preset says the `version`")
        _check_secret(self.scheme, self.secret)
        return self

    @property
    def begins_anything(self) -> bool:
        """Whether it says what a new run would get."""
        given = (self.node, self.version, self.inputs, self.nodes_input_masks, self.credentials, self.labels)
        return any(given) or self.priority is not None


def _check_secret(scheme: Scheme, secret: SecretStr | None) -> None:
    if secret is not None:
        check_secret(scheme, secret)
    elif scheme in (Scheme.STRIPE, Scheme.SLACK):
        raise ValueError(f"secret: {scheme} makes it, and shows it where the webhook is set up")


class ChangeTrigger(ChangedValues):
    """What to change; what is left out stays. Objects and lists are replaced as a whole."""

    name: ShortText | None = Field(None, min_length=1)
    node: ShortText | None = Field(None, description=_NODE_MEANS)
    body: BodyKind | None = None
    filter: _SmallFilter | None = None
    delivery_id: Source | None = Field(None, description="null: where the scheme's senders put it.")
    signal: SignalTerms | None = Field(None, description="Of a trigger that sends signals.")
    wait: _Wait = Field(None, description=_WAIT_MEANS)
    keep: _Keep | None = None

    _whole_numbers = field_validator("wait", "keep", mode="before")(only_a_number)


class PauseTrigger(Request):
    """Why it is paused."""

    reason: ShortText = "paused by request"


class Rotated(StrEnum):
    """What of a trigger is replaced."""

    TOKEN = "token"  # noqa: S105  (the name of a thing, not one)
    SECRET = "secret"  # noqa: S105


class RotateTrigger(Request):
    """What to replace. A token that is replaced stops working at once; a secret counts on for a while."""

    what: Rotated = Rotated.TOKEN
    secret: Secret | None = Field(None, description="The new one; null: one is made.")
    former_seconds: int = Field(
        86_400, ge=0, le=MAX_FORMER_SECONDS, description="Seconds for which the former secrets count, too."
    )

    _whole_numbers = field_validator("former_seconds", mode="before")(only_a_number)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.what is Rotated.TOKEN and self.secret is not None:
            raise ValueError("with a `secret`, say `what`: secret")
        return self


class RejectedView(Reply):
    """What was not signed as it must be, or could not be read: it is counted, and not listed."""

    count: int
    last_at: datetime | None = None
    last_reason: str | None = None


class TriggerView(ShownValues):
    """A trigger. Neither its token nor its secret is shown again."""

    id: UUID
    name: str
    graph_id: UUID | None = None
    preset_id: UUID | None = None
    node: str | None = Field(None, description="null: the only node that a webhook feeds.")
    scheme: Scheme
    former_secrets_until: datetime | None = Field(None, description="Until when secrets that were replaced count.")
    body: BodyKind
    filter: Filter
    delivery_id: Source | None = None
    signal: SignalTerms | None = None
    wait: int | None = Field(None, description=_WAIT_MEANS)
    keep: int
    paused_at: datetime | None = None
    pause_reason: str | None = None
    refusals: int = Field(description="Deliveries in a row that could not begin a run; after some it pauses itself.")
    rejected: RejectedView
    created_at: datetime
    updated_at: datetime
    warnings: list[ProblemPlace] = Field(
        [], description="Of one that was just made or changed: what is doubtful about what it gives."
    )


class TriggerMade(TriggerView):
    """A trigger with what is shown once: whoever knows the token may call it."""

    token: str | None = Field(None, description="null: it is as before.")
    url: str | None = Field(None, description="Where webhooks are sent to.")
    secret: str | None = Field(None, description="What the sender signs with, if it was made here.")


class TriggerList(Page):
    """Triggers, the newest first."""

    items: list[TriggerView]


class TriggerListQuery(PageQuery):
    """Which triggers to list."""

    graph_id: UUID | None = Field(None, description="Of this graph only.")


class DeliveryLine(Reply):
    """What came in, and what it did."""

    id: UUID
    outcome: Outcome
    delivery_id: str | None = Field(None, description="As its sender calls it.")
    event: str | None = Field(None, description="Its type, as its sender says.")
    run_id: UUID | None = None
    signal: str | None = Field(None, description="The name under which the run got it.")
    reason: str | None = Field(None, description="Why it was ignored or refused.")
    size: int = Field(description="Bytes of the payload that is kept; 0: none is, and it cannot be delivered again.")
    source: str = Field(description="The address that it came from; of one that was delivered again: `redelivered`.")
    redelivery_of: UUID | None = None
    repeats: int = Field(0, description="How often it came once more, to no effect.")
    repeated_at: datetime | None = None
    received_at: datetime


class DeliveryView(DeliveryLine):
    """A delivery with its payload."""

    payload: Any = Field(None, description="null: it is no longer kept.")


class DeliveryList(Page):
    """Deliveries, the newest first."""

    items: list[DeliveryLine]


class DeliveryListQuery(PageQuery):
    """Which deliveries to list."""

    outcome: Outcome | None = None


class HookAnswer(Reply):
    """What a delivery did. `outputs` and `status` are there if the answer waited for the run."""

    outcome: Outcome
    delivery: UUID | None = Field(None, description="Its id in the list of the trigger's deliveries.")
    run_id: UUID | None = None
    reason: str | None = None
    status: RunStatus | None = None
    outputs: dict[str, list[Any]] | None = None
    error: str | None = None
    challenge: str | None = Field(None, description="What Slack wants to hear when it tries out an address.")
