"""Says what a trigger expects of a delivery, and what it does with it: models that requests give and rows keep."""

from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from agentflow.graph.names import EventName, LabelName
from agentflow.schemas.base import Request, ShortText, of_form
from agentflow.triggers.filters import MAX_PATH, PATH, WITHOUT_VALUE, Condition, Operator

MAX_CONDITIONS: Final = 50
MAX_EVENTS: Final = 100
MAX_LABELS: Final = 10

_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

JsonPath = Annotated[
    str,
    Field(max_length=MAX_PATH, pattern=PATH, examples=["$.order.id"]),
    of_form(PATH, "a path is written as $.name[0]['another name']"),
]
"""The way to one place in a payload: a singular path of RFC 9535."""

HeaderName = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9-]+$")]


class BodyKind(StrEnum):
    """What a webhook's body may be."""

    ANY = "any"
    JSON = "json"
    FORM = "form"


class Source(Request):
    """Where in a delivery something stands: in a header, or at a path in the payload."""

    header: HeaderName | None = None
    path: JsonPath | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.header is None) == (self.path is None):
            raise ValueError("give either `header` or `path`")
        if self.header is not None and self.header.lower() in _SECRET_HEADERS:
            raise ValueError(f"the header {self.header} is a secret of the sender: it is not kept")
        return self


class PayloadCondition(Request):
    """A condition on a payload."""

    path: JsonPath
    operator: Operator = Operator.EQUALS
    value: Any = Field(None, description="For `in` and `not_in` a list; for `exists` and `absent` left out.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.operator in (Operator.IN, Operator.NOT_IN) and not isinstance(self.value, list):
            raise ValueError(f"`{self.operator}` needs a list as `value`")
        if self.operator in WITHOUT_VALUE and "value" in self.model_fields_set and self.value is not None:
            raise ValueError(f"`{self.operator}` takes no `value`")
        return self

    def as_condition(self) -> Condition:
        """The same, to be asked."""
        return Condition(self.path, self.operator, self.value)


class Filter(Request):
    """Which deliveries do something: all that meet every condition, and are of one of the events."""

    events: list[ShortText] = Field([], max_length=MAX_EVENTS, description="Types of events; empty: all.")
    event: Source | None = Field(None, description="Where the type stands; null: where the scheme's senders put it.")
    conditions: list[PayloadCondition] = Field([], max_length=MAX_CONDITIONS)


class SignalTerms(Request):
    """The run that gets the payload as a signal, instead of a new run.

    Either `run` says its id, or it is the newest open run that has all `labels`.
    """

    name: EventName | None = Field(None, description="The signal's name.")
    name_path: JsonPath | None = Field(None, description="Where the payload says the name.")
    run: JsonPath | None = Field(None, description="Where the payload says the run's id.")
    labels: dict[LabelName, JsonPath] = Field(
        {},
        max_length=MAX_LABELS,
        description="Labels of the run, each with the place of its value in the payload.",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.name is None) == (self.name_path is None):
            raise ValueError("give either `name` or `name_path`")
        if (self.run is None) == (not self.labels):
            raise ValueError("give either `run` or `labels`, to say which run it is")
        return self


class Terms(Request):
    """What a trigger expects of a delivery, and does with it."""

    body: BodyKind = Field(BodyKind.ANY, description="What the body may be; else the answer is a 415.")
    filter: Filter = Field(default_factory=Filter)
    delivery_id: Source | None = Field(
        None,
        description="Where the id stands by which a delivery counts once; null: where senders usually put it.",
    )
    signal: SignalTerms | None = Field(None, description="Left out: it begins a run.")
