"""Defines requests and replies about runs and their node executions."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StrictBool, field_validator

from agentflow.engine.statuses import NodeStatus, RunStatus
from agentflow.graph.json_values import only_a_number
from agentflow.graph.names import MAX_NAME, LabelName, LabelValue
from agentflow.schemas.base import MAX_INPUTS, Inputs, Moment, Page, PageQuery, Reply, Request, ShortText
from agentflow.schemas.problems import ProblemPlace

MAX_LABELS = 50
MAX_CREDENTIALS = 1_000
"""The most credentials that a submission names."""

Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=MAX_LABELS)]
"""Free-form labels by which the submitter finds runs again."""


def _limit_pins(masks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if sum(map(len, masks.values())) > MAX_INPUTS:
        raise ValueError(f"masks overwrite at most {MAX_INPUTS:,} pins")
    return masks


Masks = Annotated[dict[str, dict[str, Any]], Field(max_length=MAX_INPUTS), AfterValidator(_limit_pins)]
"""{node id: {pin: value}}."""


class NamedCredential(Request):
    """A credential to use. What is said beside its id is checked against it."""

    id: UUID
    provider: ShortText | None = None
    type: ShortText | None = None
    title: ShortText | None = None


ChosenCredentials = Annotated[dict[ShortText, UUID | NamedCredential], Field(max_length=MAX_CREDENTIALS)]
"""Keys of a graph's `credentials_input_schema`, with what is to be used for each."""


class _Submission(Request):
    inputs: Inputs = Field(default_factory=dict, description="Values of input nodes, by their `name`.")
    nodes_input_masks: Masks = Field(
        default_factory=dict, description="{node id: {pin: value}}: overwrites what the pins would get."
    )
    credentials: ChosenCredentials = Field(
        default_factory=dict,
        description="Keys of the graph's `credentials_input_schema`, each with the id of a credential of yours or of "
        "the operator's, or with an object that has that `id`. Left out: what the nodes name, your only matching one, "
        "or the operator's.",
    )
    priority: int | None = Field(None, ge=0, le=9, description="9 is the most urgent; null: the graph's, or 5.")
    labels: Labels = Field(default_factory=dict)
    allow_missing_inputs: StrictBool = Field(
        False, description="Run without inputs that are required: their nodes give nothing. Else that is a 422."
    )

    _numbers = field_validator("priority", "version", mode="before", check_fields=False)(only_a_number)


class SubmitRun(_Submission):
    """Run a stored graph."""

    version: int | None = Field(None, ge=1, le=2**31 - 1, description="null: the latest.")


class SubmitInline(_Submission):
    """Run a graph that comes with the request."""

    graph: dict[str, Any] = Field(description="The graph's document.")


class RunPreset(_Submission):
    """Run a preset. What is given here is laid over it, name by name."""


MAX_WAIT = 60
"""Seconds that a submission may wait for the end of its run."""


class WaitQuery(Request):
    """Whether to wait for the end of the run."""

    wait: float | None = Field(
        None,
        ge=0,
        le=MAX_WAIT,
        description="Seconds: if the run has ended by then, the reply is a 200 with the run and its outputs. "
        "Else, or where too many requests wait already, it is a 202. `Prefer: wait=…` says the same.",
    )


class RunAccepted(Reply):
    """The run is stored and will be carried out; `Location` says where to look."""

    id: UUID
    graph_id: UUID
    graph_version: int
    status: RunStatus
    warnings: list[ProblemPlace] = []


class ParentRun(Reply):
    """The node execution that started this run."""

    run_id: UUID
    node_id: str
    index: int


class RunSummary(Reply):
    """One line of a list of runs."""

    id: UUID
    graph_id: UUID
    graph_version: int
    graph_name: str = Field("", description="The name of the graph's latest version.")
    status: RunStatus
    reason: str | None = Field(None, description="Why it ended FAILED.")
    error: str | None = None
    labels: dict[str, str] = {}
    priority: int
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    paused_at: datetime | None = None
    parent: ParentRun | None = None
    forked_from: UUID | None = None
    schedule_id: UUID | None = Field(None, description="The schedule that started it.")
    retries: int = Field(0, description="How often it was retried as a whole.")

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.ended_at is not None


class RunView(RunSummary):
    """A run. While it is open, `stats` counts its node executions as they stand now."""

    inputs: dict[str, Any] = {}
    outputs: dict[str, list[Any]] = {}
    outputs_truncated: bool = Field(False, description="There are more, or larger ones: see `/outputs`.")
    stats: dict[str, Any] = {}
    costs: dict[str, int] = Field(
        {}, description="Credits by node id, of those that cost something; child runs count once they have ended."
    )
    unserved_queues: list[str] = Field(
        [], description="Queues in which node executions of it are ready, and which no worker serves."
    )


class RunList(Page):
    """Runs, the newest first."""

    items: list[RunSummary]


_LABEL = r"^[^\x00-\x1f\x7f=]+=[^\x00-\x1f\x7f]*$"


class RunListQuery(PageQuery):
    """Which runs."""

    status: RunStatus | None = None
    graph_id: UUID | None = None
    parent: UUID | None = Field(None, description="Child runs of this run.")
    roots: bool = Field(False, description="Those only that are no child runs.")
    label: list[Annotated[str, Field(max_length=2 * MAX_NAME + 1, pattern=_LABEL)]] = Field(
        [], max_length=MAX_LABELS, description="`name=value`; several must all be there."
    )
    created_after: Moment | None = Field(None, description="With a time zone, as 2026-01-31T12:00:00Z.")
    created_before: Moment | None = None


class OutputItem(Reply):
    """One value of a run's outputs."""

    name: str
    value: Any
    node_id: str
    index: int


class OutputList(Page):
    """Outputs of a run: of each output node in order."""

    items: list[OutputItem]


class OutputListQuery(PageQuery):
    """Which outputs of a run."""

    name: str | None = Field(None, max_length=1000, description="The output's name.")


class WaitView(Reply):
    """What a node execution waits for.

    `kind` is timer, event, review or child; `key` the event's name, the review's id, or what tells child runs apart.
    """

    kind: str
    key: str
    since: datetime
    until: datetime | None = Field(None, description="When it goes on without; null: never.")


class NodeExecutionView(Reply):
    """The `index`-th execution of a node.

    Where a value is too long for this view it reads {"$truncated": {"bytes": …, "preview": …}}.
    """

    id: str
    node_id: str
    block: str
    title: str
    index: int
    status: NodeStatus
    reason: str | None = None
    attempt: int = Field(description="Tries so far. To go on after a wait is none.")
    inputs: dict[str, Any] = {}
    outputs: dict[str, list[Any]] = {}
    outputs_truncated: bool = False
    waiting_for: list[str] = Field([], description="Linked pins with no value yet.")
    wait: WaitView | None = Field(None, description="What it waits for on the outside, while it is WAITING.")
    child_runs: list[UUID] = Field([], description="The runs that it started; one of a sub-graph node.")
    hold: str | None = Field(None, description="Why nobody works on it although it is QUEUED: limit, rate, unserved, …")
    error: str | None = None
    traceback: str | None = Field(None, description="Of a block's bug, where the installation shows it.")
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    worker: str | None = None
    stats: dict[str, Any] = Field(
        {}, description="Counts, and in seconds `duration` (without its waits) and `waited` (in waits that are over)."
    )


class NodeExecutionList(Page):
    """Node executions of a run, by node and index."""

    items: list[NodeExecutionView]


MAX_FULL_PAGE = 10
"""The most node executions on a page with full values."""


class NodeListQuery(PageQuery):
    """Which node executions of a run."""

    status: NodeStatus | None = None
    node: str | None = Field(None, max_length=200, description="The node's id.")
    index: int | None = Field(None, ge=1, le=2**31 - 1)
    values: Literal["short", "full"] = Field(
        "short", description=f"`full`: long values too, and at most {MAX_FULL_PAGE} node executions a page."
    )


class Reason(Reply):
    """One thing that a run waits for, in words; `node_id` and `index`: of the first node execution concerned."""

    message: str
    node_id: str | None = None
    index: int | None = None
    until: datetime | None = Field(None, description="When it goes on by itself, where that is known.")
    run_ids: list[UUID] = Field([], description="Other runs that have to do with it.")


class RunExplanation(Reply):
    """Why a run does not go on. `truncated`: there are more reasons."""

    run_id: UUID
    status: RunStatus
    reasons: list[Reason]
    truncated: bool = False


class ForkRun(Request):
    """Go on from one node in a new run."""

    from_node: str = Field(
        min_length=1, max_length=200, pattern=r"^[^\x00]*$", description="The id of the node at which it begins."
    )
    inputs: Inputs = Field(default_factory=dict, description="{pin: value}: what it gets instead.")


class CancelRun(Request):
    """Cancel a run."""

    reason: ShortText = "cancelled by request"


class BulkCancel(Request):
    """Cancel all open runs that fit. An empty filter fits all of them, so it must be said: `all`."""

    status: Literal["QUEUED", "RUNNING", "WAITING"] | None = None
    graph_id: UUID | None = None
    labels: Labels = Field(default_factory=dict)
    created_after: Moment | None = None
    created_before: Moment | None = None
    all: StrictBool = Field(False, description="Needed where nothing else is given.")
    reason: ShortText = "cancelled by request"


class BulkCancelled(Reply):
    """The runs that will end CANCELLED. `more`: others fit as well; ask again."""

    cancelled: list[UUID]
    count: int
    more: bool


class CancelAccepted(Reply):
    """The run will end CANCELLED. `status` is what it reads now."""

    id: UUID
    status: RunStatus
    cancel_requested_at: datetime | None = None
