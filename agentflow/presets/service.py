"""Saves what a graph is to be run with, under a name, and runs it.

A preset need not be complete: what a request gives is laid over it, name by name. It must fit the graph when it is
saved; a preset without a version follows the graph, so a later version may refuse it when it is run.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import quota
from agentflow.blocks.registry import catalogue
from agentflow.engine.codec import dumps, loads
from agentflow.errors import GraphInvalid, NotFound
from agentflow.graph.validation import check_inputs
from agentflow.presets import store
from agentflow.presets.tables import Preset
from agentflow.services import chosen_credentials, cursors, graphs, secrecy, submissions
from agentflow.services.cursors import PageRequest
from agentflow.services.given import refuse_unstorable
from agentflow.services.plans import document_of, plan_of
from agentflow.services.submissions import Accepted, Stored, Wanted
from agentflow.storage import graphs as stored_graphs


@dataclass(frozen=True, slots=True)
class Given:
    """What a preset gives to a run. `priority` None: the graph's, or 5; `credentials`: as in `Wanted`."""

    inputs: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None
    credentials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "Given":
        """What was stored as `text`."""
        return cls(**loads(text))

    @property
    def text(self) -> str:
        """It, to be stored."""
        return dumps(asdict(self))

    def under(self, wanted: Wanted) -> Wanted:
        """This with `wanted` laid over it: inputs, labels, credentials and masked pins by their names."""
        masks = {node: dict(pins) for node, pins in self.masks.items()}
        for node, pins in wanted.masks.items():
            masks.setdefault(node, {}).update(pins)
        return replace(
            wanted,
            inputs={**self.inputs, **wanted.inputs},
            masks=masks,
            labels={**self.labels, **wanted.labels},
            priority=self.priority if wanted.priority is None else wanted.priority,
            credentials={**self.credentials, **wanted.credentials},
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A preset as it is to be. `version` None: the graph's latest, also later."""

    graph_id: UUID
    version: int | None
    name: str
    given: Given


def create(session: Session, owner_id: UUID, draft: Draft) -> Preset:
    """Save a preset.

    Raises:
        NotFound: the owner has no such graph, or the graph no such version.
        GraphInvalid: what it gives does not fit the graph.
        TooLarge: a value is larger than one may be, or the owner stores as much as they may.
        Malformed: a value cannot be stored.
    """
    _check(session, owner_id, draft)
    preset = store.add(session, owner_id, draft.graph_id, draft.version, draft.name, draft.given.text)
    quota.refuse_beyond(session, owner_id)
    return preset


def get(session: Session, owner_id: UUID, preset_id: UUID, *, lock: bool = False) -> Preset:
    """One preset; `lock`: nobody else changes it until this transaction ends.

    Raises:
        NotFound: the owner has no such preset.
    """
    preset = store.find(session, owner_id, preset_id, lock=lock)
    if preset is None:
        raise NotFound(f"there is no preset {preset_id}")
    return preset


def page(
    session: Session, owner_id: UUID, graph_id: UUID | None, asked: PageRequest
) -> tuple[list[Preset], str | None]:
    """One page of the owner's presets, the newest first, and the next page's cursor; `graph_id`: of that graph only."""
    of = f"presets/{graph_id}" if graph_id else "presets"
    found, more = store.page(session, owner_id, graph_id, cursors.identifier(of, asked.after), asked.limit)
    return found, cursors.cursor(of, found[-1].id) if more else None


def change(session: Session, owner_id: UUID, preset_id: UUID, draft: Draft) -> Preset:
    """Make a preset what `draft` says. Get it with `lock` first, to keep what is not to change.

    Raises:
        NotFound, GraphInvalid, TooLarge, Malformed: as in `create`.
    """
    preset = get(session, owner_id, preset_id, lock=True)
    _check(session, owner_id, draft)
    preset.version, preset.name, preset.given = draft.version, draft.name, draft.given.text
    store.changed(session, preset)
    quota.refuse_beyond(session, owner_id)
    return preset


def shown(session: Session, preset: Preset) -> Given:
    """What a preset gives, without its secrets: as the views of its runs show it."""
    stored = Stored(preset.graph_id, preset.version)
    return without_secrets(session, preset.owner_id, stored, Given.read(preset.given))


def without_secrets(session: Session, owner_id: UUID, stored: Stored, given: Given) -> Given:
    """What `given` gives to a graph, without its secrets; without any value, if nothing tells what is secret."""
    try:
        plan = plan_of(session, stored.graph_id, stored.version or _latest(session, owner_id, stored.graph_id))
    except (NotFound, GraphInvalid):
        hidden = {node: dict.fromkeys(pins, secrecy.HIDDEN) for node, pins in given.masks.items()}
        return replace(given, inputs=dict.fromkeys(given.inputs, secrecy.HIDDEN), masks=hidden)
    nodes = {node.id: node for node in plan.nodes}
    masks = {
        node: secrecy.hide_inputs(nodes[node], dict(pins)) if node in nodes else dict.fromkeys(pins, secrecy.HIDDEN)
        for node, pins in given.masks.items()
    }
    return replace(given, inputs=secrecy.hide_run_inputs(plan, dict(given.inputs)), masks=masks)


def kept(new: Any, told: Any, old: Any) -> Any:
    """`new`, where what is as it was `told` stays what it is, `old`: a secret that is sent back hidden is not lost."""
    if new == told:
        return old
    if isinstance(new, Mapping) and isinstance(told, Mapping) and isinstance(old, Mapping):
        return {name: kept(value, told[name], old[name]) if name in told else value for name, value in new.items()}
    return new


def _latest(session: Session, owner_id: UUID, graph_id: UUID) -> int:
    head = stored_graphs.find(session, owner_id, graph_id)
    if head is None:
        raise NotFound(f"there is no graph {graph_id}")
    return head.latest_version


def delete(session: Session, owner_id: UUID, preset_id: UUID) -> None:
    """Delete a preset; its runs stay.

    Raises:
        NotFound: the owner has no such preset.
    """
    store.remove(session, get(session, owner_id, preset_id, lock=True))


def run(session: Session, owner_id: UUID, preset_id: UUID, wanted: Wanted, key: str | None = None) -> Accepted:
    """Run a preset's graph with what it gives and `wanted` laid over that.

    The Idempotency-Key `key` stands for the preset and `wanted`: changing the preset in between starts no other run.

    Raises:
        NotFound: the owner has no such preset, or its graph or version is gone.
        GraphInvalid, IdempotencyMismatch, TooLarge: as in `submissions.submit`.
    """
    preset = get(session, owner_id, preset_id)
    return submissions.submit(
        session,
        owner_id,
        Stored(preset.graph_id, preset.version),
        Given.read(preset.given).under(wanted),
        key,
        asked=["preset", str(preset_id), wanted.as_asked()],
    )


def _check(session: Session, owner_id: UUID, draft: Draft) -> None:
    given = draft.given
    latest = _latest(session, owner_id, draft.graph_id)
    version = draft.version or latest
    plan = plan_of(session, draft.graph_id, version)
    refuse_unstorable(given.inputs, given.masks)
    problems = tuple(check_inputs(plan, catalogue, given.inputs))
    graph = document_of(session, draft.graph_id, version)
    if given.credentials:
        problems += chosen_credentials.as_masks(session, owner_id, graph, given.credentials, given.masks)[1]
    if given.masks:
        problems += graphs.unknown_in_masks(session, owner_id, graph, given.masks)
    if any(problem.severity == "error" for problem in problems):
        raise GraphInvalid("what the preset gives does not fit the graph", problems)
