"""Calls statements that are prepared once, in one round trip each, and maps the server's errors.

One autocommit connection; `connect.py` says why it is not SQLAlchemy's. Statements go out by libpq's own call, without
a cursor: a settle, which has 26 parameters, costs a third less (ARCHITECTURE.md, "Decisions"). This module writes
values as PostgreSQL's text; psycopg converts the results.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from psycopg import Connection, OperationalError, abc, errors
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from agentflow.errors import EngineError, Unavailable
from agentflow.storage.connect import AWAY, connect_hot

logger = logging.getLogger(__name__)

_TRIED_AGAIN: Final = frozenset(
    error.sqlstate for error in (errors.DeadlockDetected, errors.LockNotAvailable, errors.SerializationFailure)
)
_TRIES: Final = 5

_DONE: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


def function(name: str, types: str) -> tuple[str, str]:
    """The statement that calls a function of `sql/`, as `PreparedConnection.statements` takes it."""
    placeholders = ", ".join(f"${number}" for number in range(1, types.count(",") + 2))
    return types, f"SELECT * FROM agentflow_{name}({placeholders})"  # noqa: S608 - no value is in it


class _Refused(Exception):
    """The server answers with an error, or does not answer (`sqlstate` None)."""

    def __init__(self, sqlstate: str | None, reason: str) -> None:
        super().__init__(reason)
        self.sqlstate = sqlstate


class PreparedConnection:
    """A connection with statements that are prepared when they are first called; opened then, and again after it broke.

    Attributes:
        statements: name → (types of its parameters, its text), both as PREPARE takes them.
    """

    statements: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._prepared: dict[str, bytes] = {}  # name → the same as libpq takes it
        self._reading: abc.Transformer  # converts results to Python's values

    def close(self) -> None:
        """Close it; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._prepared = {}

    def _rows(self, name: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        prepared = self._prepared.get(name) or self._prepare(name)
        assert self._connection is not None
        texts = [_WRITERS[type(value)](value) for value in values]
        result = _checked(self._connection.pgconn.exec_prepared(prepared, texts))
        self._reading.set_pgresult(result)
        rows: list[tuple[Any, ...]] = self._reading.load_rows(0, result.ntuples, tuple)
        return rows

    def _prepare(self, name: str) -> bytes:
        if self._connection is None:
            self._connection = connect_hot(self._url)
            self._reading = Transformer(self._connection)
        parameters, statement = self.statements[name]
        _checked(self._connection.pgconn.exec_(f"PREPARE {name} ({parameters}) AS {statement}".encode()))
        self._prepared[name] = name.encode()
        return self._prepared[name]

    def _call(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        """Call a prepared statement; lock conflicts are tried again, as the whole call is one transaction.

        Raises:
            Unavailable: the server is away or overloaded. Whether the call was carried out is unknown.
            EngineError: the server refuses the call as it is; calling again is useless.
        """
        for remaining in reversed(range(_TRIES)):
            try:
                return self._rows(name, values)
            except OperationalError as error:  # libpq itself: out of memory, or a connection that was closed
                self.close()
                raise Unavailable(f"PostgreSQL is away: {str(error).strip()}") from error
            except _Refused as refused:
                if refused.sqlstate in _TRIED_AGAIN and remaining:
                    continue
                if refused.sqlstate is None or refused.sqlstate.startswith(AWAY):
                    self.close()
                    raise Unavailable(f"PostgreSQL is away: {refused}") from None
                # The server's text may hold values: only the log gets it.
                logger.warning("statement_refused", extra={"statement": name, "error": str(refused)})
                raise EngineError(f"PostgreSQL refuses to {name} ({refused.sqlstate})") from None
        raise AssertionError("unreachable")


def _checked(result: PGresult) -> PGresult:
    """`result`, if the server carried out the statement.

    Raises:
        _Refused: it did not, or does not answer.
    """
    if result.status in _DONE:
        return result
    sqlstate = result.error_field(DiagnosticField.SQLSTATE)
    reason = result.error_message.decode(errors="replace").strip()
    raise _Refused(sqlstate.decode() if sqlstate else None, reason)


class _Writers(dict[type, Callable[[Any], Any]]):
    """How to write a value, by its type; a type that is not listed is written like its base class."""

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        for base in kind.__mro__:
            if base in self:
                self[kind] = self[base]
                return self[kind]
        raise TypeError(f"no parameter of a statement can be a {kind.__name__}")


def _write_text(value: str) -> bytes:
    if "\x00" in value:  # libpq would end the text there
        raise ValueError("PostgreSQL's texts cannot contain a NUL character")
    return value.encode()


def _write_list(values: Sequence[Any]) -> bytes:
    if not values:
        return b"{}"
    kind = type(values[0])
    if kind is int:
        return ("{" + ",".join(map(str, values)) + "}").encode()
    if issubclass(kind, str):  # quoted, so that commas, braces, NULL and empty texts stay what they are
        quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
        return _write_text('{"' + '","'.join(quoted) + '"}')
    write = _WRITERS[kind]
    return b"{" + b",".join([write(value) for value in values]) + b"}"


_WRITERS: Final = _Writers()
_WRITERS[type(None)] = lambda _: None
_WRITERS[bool] = lambda value: b"t" if value else b"f"
_WRITERS[int] = lambda value: b"%d" % value
_WRITERS[float] = lambda value: repr(value).encode()
_WRITERS[str] = _write_text
_WRITERS[UUID] = lambda value: value.hex.encode()
_WRITERS[list] = _WRITERS[tuple] = _write_list
