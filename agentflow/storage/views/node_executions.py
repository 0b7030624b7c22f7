"""Reads the node executions of a run, and the values that went in and came out.

Every read takes a `Budget`, so that a list does not become as large as its values: a value beyond it comes as its size
and its first characters. All look-ups are by key; the caller has checked the owner.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    DateTime,
    Integer,
    Row,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, aliased

from agentflow.engine.routing import ERROR_ORDINALS
from agentflow.storage.tables import Delivery, NodeExecution, Output, Run, Wait

AnyRow = Row[*tuple[Any, ...]]

_COLUMNS = [column for column in NodeExecution.__table__.columns if column.name != "check_at"]
"""`check_at` is recovery's alone, and may be infinity, for which Python has no time."""

PREVIEW = 200
"""Characters of a value that is too long, which are shown all the same."""

CHILD_RUNS = 1000
"""Child runs that are named on a page of node executions, at most; `GET /runs?parent=…` lists them all."""


class Budget(NamedTuple):
    """How much is read: bytes of one value, bytes of all together, and outputs of a node execution."""

    each: int
    total: int
    outputs: int


class Value(NamedTuple):
    """A value as JSON text, or, where it exceeds the budget, None, with its size in bytes and its beginning."""

    text: str | None
    size: int
    preview: str


class Key(NamedTuple):
    """Names a node execution within its run."""

    node: int
    idx: int


class OutputLine(NamedTuple):
    """One output of a run: the value, and the name that came with it, if any, as JSON text."""

    node: int
    idx: int
    ordinal: int
    name: str | None
    value: Value


def page(
    session: Session,
    run_id: UUID,
    *,
    node: int | None,
    idx: int | None,
    status: str | None,
    after: Key | None,
    limit: int,
) -> Sequence[AnyRow]:
    """Node executions by (node, idx), above `after`."""
    query = select(*_COLUMNS).where(NodeExecution.run_id == run_id)
    if node is not None:
        query = query.where(NodeExecution.node == node)
    if idx is not None:
        query = query.where(NodeExecution.idx == idx)
    if status is not None:
        query = query.where(NodeExecution.status == status)
    if after is not None:
        query = query.where(
            tuple_(NodeExecution.node, NodeExecution.idx) > tuple_(literal(after.node), literal(after.idx))
        )
    return session.execute(query.order_by(NodeExecution.node, NodeExecution.idx).limit(limit)).all()


def _within(budget: Budget, value: Any, *order: Any) -> tuple[Any, Any, Any]:
    """The columns of a `Value`. Sizes are read without the values themselves (they stand in the TOAST pointers)."""
    size = func.octet_length(value)
    used = func.sum(func.least(size, budget.each)).over(order_by=order)
    fits = and_(size <= budget.each, used <= budget.total)
    return (
        case((fits, value)).label("text"),
        size.label("size"),
        case((fits, ""), else_=func.left(value, PREVIEW)).label("preview"),
    )


def waits(session: Session, run_id: UUID, keys: Sequence[Key]) -> dict[Key, AnyRow]:
    """What the node executions wait for, or waited for last, and how long they waited before that (`seconds`)."""
    if not keys:
        return {}
    rows = session.execute(
        select(Wait.node, Wait.idx, Wait.kind, Wait.key, Wait.open, Wait.since, Wait.until, Wait.seconds).where(
            Wait.run_id == run_id, tuple_(Wait.node, Wait.idx).in_(keys)
        )
    )
    return {Key(row.node, row.idx): row for row in rows}


def child_runs(session: Session, run_id: UUID, keys: Sequence[Key]) -> dict[Key, list[UUID]]:
    """The child runs that each of the node executions started, the oldest first, up to `CHILD_RUNS` in all."""
    if not keys:
        return {}
    rows = session.execute(
        select(Run.id, Run.parent_node, Run.parent_idx)
        .where(Run.parent_run_id == run_id, tuple_(Run.parent_node, Run.parent_idx).in_(keys))
        .order_by(Run.parent_node, Run.parent_idx, Run.id)
        .limit(CHILD_RUNS)
    )
    found: dict[Key, list[UUID]] = {}
    for row in rows:
        found.setdefault(Key(row.parent_node, row.parent_idx), []).append(row.id)
    return found


def outputs(session: Session, run_id: UUID, keys: Sequence[Key], budget: Budget) -> dict[Key, list[tuple[str, Value]]]:
    """What each of the node executions yielded: (pin, value) in order."""
    if not keys:
        return {}
    rows = session.execute(
        select(
            Output.node, Output.idx, Output.pin, *_within(budget, Output.value, Output.node, Output.idx, Output.ordinal)
        )
        .where(
            Output.run_id == run_id,
            tuple_(Output.node, Output.idx).in_(keys),
            Output.part == 0,
            or_(Output.ordinal < budget.outputs, Output.ordinal >= ERROR_ORDINALS),
        )
        .order_by(Output.node, Output.idx, Output.ordinal)
    )
    found: dict[Key, list[tuple[str, Value]]] = {}
    for node, idx, pin, text, size, preview in rows:
        found.setdefault(Key(node, idx), []).append((pin, Value(text, size, preview)))
    return found


class Source(NamedTuple):
    """The node, by number, and its pin that gave a value."""

    node: int
    pin: str


def delivered(
    session: Session, run_id: UUID, pins: Sequence[tuple[int, str, int]], budget: Budget
) -> dict[Key, dict[str, tuple[Source, Value]]]:
    """What was delivered to `pins`, given as (node, pin, idx): per node execution {pin: (source, value)}."""
    if not pins:
        return {}
    asked = (
        func.unnest(
            literal([node for node, _, _ in pins], ARRAY(Integer)),
            literal([pin for _, pin, _ in pins], ARRAY(Text)),
            literal([idx for _, _, idx in pins], ARRAY(Integer)),
        )
        .table_valued("node", "pin", "idx", name="asked")
        .render_derived()
    )
    rows = session.execute(
        select(
            Delivery.node,
            Delivery.idx,
            Delivery.pin,
            Delivery.source_node,
            Output.pin.label("source_pin"),
            *_within(budget, Output.value, Delivery.node, Delivery.idx, Delivery.pin),
        )
        .select_from(asked)
        .join(
            Delivery,
            and_(
                Delivery.run_id == run_id,
                Delivery.node == asked.c.node,
                Delivery.pin == asked.c.pin,
                Delivery.idx == asked.c.idx,
            ),
        )
        .join(
            Output,
            and_(
                Output.run_id == run_id,
                Output.node == Delivery.source_node,
                Output.idx == Delivery.source_idx,
                Output.ordinal == Delivery.source_ordinal,
                Output.part == Delivery.source_part,
            ),
        )
    )
    found: dict[Key, dict[str, tuple[Source, Value]]] = {}
    for node, idx, pin, source, source_pin, text, size, preview in rows:
        found.setdefault(Key(node, idx), {})[pin] = (Source(source, source_pin), Value(text, size, preview))
    return found


def run_outputs(
    session: Session,
    run_id: UUID,
    nodes: Sequence[int],
    *,
    name: tuple[str, Sequence[int]] | None,
    after: tuple[int, int, int] | None,
    limit: int,
    budget: Budget,
    merged: bool = False,
) -> list[OutputLine]:
    """The outputs of the output nodes `nodes`, by (node, idx, ordinal), behind the output `after`.

    A value's name is what came on the pin `name` right after it; nodes whose name is fixed may give none. `name`
    keeps only the values of this name (as JSON text), given on the pin or fixed for the nodes listed beside it.

    Args:
        merged: between nodes, in the order in which their outputs became final (as in `children.outputs`), those that
            are not final yet last. It reads all executions of these nodes.
    """
    named = aliased(Output)
    key: list[Any] = [Output.node, Output.idx, Output.ordinal]
    query: Select[*tuple[Any, ...]]
    query = (
        select(*key, Output.value, named.value.label("name"))
        .join(named, _names(named), isouter=True)
        .where(Output.run_id == run_id, Output.node.in_(nodes), Output.pin == "output", Output.part == 0)
        .limit(limit)
    )
    order = key
    place: list[Any] = [literal(part) for part in after or ()]
    if merged:
        turn = _turns(run_id, nodes)
        query = query.join(turn, and_(turn.c.node == Output.node, turn.c.idx == Output.idx))
        query = query.add_columns(turn.c.final_at)
        order = [turn.c.final_at, *key]
        if after is not None:
            its = select(turn.c.final_at).where(turn.c.node == after[0], turn.c.idx == after[1])
            place = [its.scalar_subquery(), *place]
    if name is not None:
        text, fixed = name
        query = query.where(or_(named.value == text, and_(named.value.is_(None), Output.node.in_(fixed))))
    if after is not None:
        query = query.where(tuple_(*order) > tuple_(*place))
    # The page is cut first: a window over it all would read the whole run.
    line = query.order_by(*order).subquery().c
    key = [line.node, line.idx, line.ordinal]
    order = [line.final_at, *key] if merged else key
    rows = session.execute(select(*key, line.name, *_within(budget, line.value, *order)).order_by(*order))
    return [OutputLine(node, idx, ordinal, given, Value(*value)) for node, idx, ordinal, given, *value in rows]


def _turns(run_id: UUID, nodes: Sequence[int]) -> CTE:
    """The executions of `nodes`, and since when neither it nor an earlier one has been open: infinity while one is."""
    ended = func.coalesce(NodeExecution.ended_at, cast("infinity", DateTime(timezone=True)))
    final_at = func.max(ended).over(partition_by=NodeExecution.node, order_by=NodeExecution.idx)
    return (
        select(NodeExecution.node, NodeExecution.idx, final_at.label("final_at"))
        .where(NodeExecution.run_id == run_id, NodeExecution.node.in_(nodes))
        .cte("turns")
    )


def _names(named: type[Output]) -> ColumnElement[bool]:
    """`named` is the name of an output: what the node execution yielded on the pin `name` right after it."""
    return and_(
        named.run_id == Output.run_id,
        named.node == Output.node,
        named.idx == Output.idx,
        named.ordinal == Output.ordinal + 1,
        named.part == 0,
        named.pin == "name",
    )
