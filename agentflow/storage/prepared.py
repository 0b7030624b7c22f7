"""How does a statement that is prepared once become one round trip, and what do the server's errors mean?

One autocommit connection: see `connect.py` for why it is not SQLAlchemy's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import psycopg2
import psycopg2.errors
import psycopg2.extras

from agentflow.errors import EngineError, Unavailable
from agentflow.storage.connect import connect_hot

psycopg2.extras.register_uuid()  # uuid, and arrays of it

_TRIED_AGAIN = (
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.SerializationFailure,
)
_TRIES = 5

_AWAY = ("08", "53", "57", "25006", "40", "55P03")
"""SQLSTATEs, or their beginnings, with which a server says: not now. Connection, resources (a full disk too), shutdown,
a standby that was promoted elsewhere, conflicts that did not resolve. The same call may work later."""


class PreparedConnection:
    """A connection with statements that are prepared when they are first called; opened then, and again after it broke.

    Attributes:
        statements: name → (types of its parameters, its text), both as PREPARE takes them.
    """

    statements: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._connection: Any = None
        self._cursor: Any = None
        self._prepared: set[str] = set()

    def close(self) -> None:
        """Close it; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._cursor = None
        self._prepared = set()

    def _rows(self, name: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._cursor is None:
            self._connection = connect_hot(self._url)
            self._cursor = self._connection.cursor()
        if name not in self._prepared:
            types, statement = self.statements[name]
            self._cursor.execute(f"PREPARE {name} ({types}) AS {statement}")
            self._prepared.add(name)
        self._cursor.execute(f"EXECUTE {name} ({', '.join(['%s'] * len(values))})", values)
        rows: list[tuple[Any, ...]] = self._cursor.fetchall()
        return rows

    def _call(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        """Call a prepared statement; lock conflicts are tried again, as the whole call is one transaction.

        Raises:
            Unavailable: the server is away or overloaded. Whether the call was carried out is not known.
            EngineError: the server refuses the call as it is; calling again is useless.
        """
        for remaining in reversed(range(_TRIES)):
            try:
                return self._rows(name, values)
            except psycopg2.Error as error:
                if isinstance(error, _TRIED_AGAIN) and remaining:
                    continue
                reason = str(error).strip()
                if error.pgcode is None or error.pgcode.startswith(_AWAY):
                    self.close()
                    raise Unavailable(f"PostgreSQL is away: {reason}") from error
                raise EngineError(f"PostgreSQL refuses to {name}: {reason}") from error
        raise AssertionError("unreachable")
