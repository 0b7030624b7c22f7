"""The base of all tables.

A feature's tables stand in its folder (`accounts/tables.py`), the engine's in `storage/tables.py`, which imports those
of all features: a foreign key finds its table, and a migration sees all.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, MetaData, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase


class Table(DeclarativeBase):
    """The base of all tables. Constraints and indexes get predictable names."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pk",
            "fk": "%(table_name)s_%(column_0_N_name)s_fk",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        }
    )
    type_annotation_map = {
        UUID: Uuid(),
        datetime: DateTime(timezone=True),
        str: Text(),
        dict[str, Any]: JSONB(),
    }


def one_of(column: str, values: Iterable[str]) -> str:
    """The condition of a CHECK that `column` holds one of `values`."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})"
