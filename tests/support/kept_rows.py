"""Keeps all rows of a database, and puts them back into an empty one: quicker than the requests that made them."""

from io import BytesIO
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from agentflow.services.transaction import transaction
from agentflow.storage.tables import Table

Rows = dict[str, bytes]
"""Table → its rows, as COPY writes them."""


def all_rows() -> Rows:
    """The rows of all tables that have any."""
    found = {}
    with transaction() as session:
        for table, columns in _tables(session).items():
            file = BytesIO()
            _cursor(session).copy_expert(f"COPY {table} ({columns}) TO STDOUT", file)
            if file.tell():
                found[table] = file.getvalue()
    return found


def put_back(rows: Rows) -> None:
    """Write rows into tables that have none."""
    with transaction() as session:
        for table, columns in _tables(session).items():
            if table in rows:
                session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))  # which know how rows come to be
                _cursor(session).copy_expert(f"COPY {table} ({columns}) FROM STDIN", BytesIO(rows[table]))
                session.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


def _tables(session: Session) -> dict[str, str]:
    """Table → its columns that can be written, tables that others refer to first."""
    written = dict(
        session.execute(
            text(
                "SELECT table_name, string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) "
                "FROM information_schema.columns WHERE table_schema = 'public' AND is_generated = 'NEVER' GROUP BY 1"
            )
        ).all()
    )
    names = [table.name for table in Table.metadata.sorted_tables if table.name != "engine_functions"]
    return {name: written[name] for name in names}


def _cursor(session: Session) -> Any:
    return session.connection().connection.cursor()
