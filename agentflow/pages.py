"""Reads a page of rows that may be large: as many as fit into one reply, and one at least.

A user may keep megabytes in each of thousands of rows. A page of 200 of them would be a reply of gigabytes, and what
makes it would need several times as much.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, func, literal
from sqlalchemy.orm import InstrumentedAttribute, Session

PAGE_BYTES: Final = 4 * 1024 * 1024
"""What the large values of a page take in all, if it has more than one row."""

_Large = InstrumentedAttribute[str] | InstrumentedAttribute[str | None]


def page(
    session: Session, query: Select[*tuple[Any, ...]], limit: int, *large: _Large
) -> tuple[Sequence[Row[*tuple[Any, ...]]], bool]:
    """The first rows of `query`, which is ordered, up to `limit`, and whether there are more; `large`: what may be."""
    size: ColumnElement[int] = literal(0)
    for each in large:
        size += func.coalesce(func.octet_length(each), 0)  # which PostgreSQL knows without reading the value
    lengths = session.scalars(query.with_only_columns(size).limit(limit + 1)).all()
    taken = total = 0
    for length in lengths[:limit]:
        total += length
        if taken and total > PAGE_BYTES:
            break
        taken += 1
    return session.execute(query.limit(taken)).all(), taken < len(lengths)
