"""Queries a PostgreSQL database, and can change nothing in it.

What makes it read-only is the role, not an inspection of the query. A role is refused if it, or any role that it may
become, has one of the privileges that `sql_role` checks. Some things cannot be checked, such as functions that run with
their owner's rights; for these there is a read-only transaction, which is rolled back. The query uses the extended
protocol, so it is a single statement, and is wrapped in a SELECT, so it returns rows. Parameters are bound, never
written into the text. This needs psycopg 3: psycopg2 writes them into the text, which may hold several statements, and
an interruption waits until these have ended.

AgentFlow's own database is refused under any name: the server is asked which tables it has. The password is sent only
to the server that the credential names, and only by SCRAM, which does not reveal it. To require TLS, set it there:
postgresql://db.example.com:5432?sslmode=verify-full. The worker account's own PostgreSQL secrets, such as a password
file, are never used.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.types.json import Jsonb
from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.credentials import Credential, credentials, hold_to_its_server, provider_of
from agentflow.blocks.data.sql_role import refuse_more_than_reading, refuse_our_own
from agentflow.errors import BadInput, Transient
from agentflow.graph.catalogue import Dependence
from agentflow.graph.costs import Cost
from agentflow.net.connecting import addresses_of
from agentflow.settings import settings

_PROVIDER: Final = "database"
_EXAMPLE: Final = "postgresql://db.example.com:5432"
_PORT: Final = 5432
_MOST_ROWS: Final = 10_000
_CONNECT_SECONDS: Final = 10

if TYPE_CHECKING:
    _Credentials = dict[str, Any] | None
else:
    _Credentials = credentials(_PROVIDER, types=("user_password",))


class SQLQuery(Block):
    id = "4dc35c0f-4fd8-465e-9616-5a216f1ba2bc"
    name = "SQLQuery"
    description = "Asks a PostgreSQL database with a role that may read only."
    categories = ("DATA",)
    lane = "io"
    timeout = 360
    depends_on = frozenset({Dependence.OUTSIDE})
    cacheable = True
    cost = (Cost(1, filter={"credentials": {"system": True}}),)

    class Input(BlockInput):
        query: str = Field(min_length=1, max_length=100_000, description="One SELECT; %s or %(name)s for parameters.")
        parameters: list[Any] | dict[str, Any] | None = Field(None, description="Their values, in order or by name.")
        database_type: str = Field("postgres", description="postgres; there is no other yet.")
        host: str = Field(min_length=1, max_length=255, description="The server.")
        port: int | None = Field(None, ge=1, le=65_535, description="Its port; left out: 5432.")
        database: str = Field(min_length=1, max_length=63, description="The database.")
        read_only: bool = Field(True, description="Must be true.")
        timeout: float = Field(30, gt=0, le=300, description="Seconds that the query may take.")
        max_rows: int = Field(1000, ge=1, le=_MOST_ROWS, description="Rows that are given, at most.")
        credentials: _Credentials = Field(None, description="Whose user name and password to use.")

    class Output(BlockOutput):
        results: list[dict[str, Any]] = Field(description="The rows: column → value.")
        columns: list[str] = Field(description="The columns, in order.")
        row_count: int = Field(description="How many rows are given.")
        truncated: bool = Field(description="Whether there were more.")

    # Examples that need a server are in the tests; these need none.
    vectors = (
        TestVector(
            {"query": "SELECT 1", "host": "db.test", "database": "d", "database_type": "mysql"}, fails="postgres alone"
        ),
        TestVector(
            {"query": "DELETE FROM t", "host": "db.test", "database": "d", "read_only": False}, fails="read_only"
        ),
        TestVector(
            {"query": "SELECT 1", "host": "db.test", "database": "d"}, fails="there is no credential for database"
        ),
        TestVector({"query": "", "host": "db.test", "database": "d"}, fails="query"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        if inputs.database_type.lower() not in ("postgres", "postgresql"):
            raise BadInput(f"database_type: postgres alone can be asked, not {inputs.database_type!r:.60}")
        if not inputs.read_only:
            raise BadInput("read_only: queries that change something are not carried out")
        credential = context.credential(provider_of(inputs.credentials, _PROVIDER))
        port = inputs.port or _PORT
        hold_to_its_server(credential, inputs.host, port, _EXAMPLE)
        addresses = addresses_of(inputs.host, port)
        refuse_our_own(addresses, port, inputs.database)
        columns, rows = _ask(inputs, credential, addresses)
        given = rows[: inputs.max_rows]
        yield "results", [dict(zip(columns, map(_plain, row), strict=True)) for row in given]
        yield "columns", columns
        yield "row_count", len(given)
        yield "truncated", len(rows) > inputs.max_rows


def _ask(
    inputs: SQLQuery.Input, credential: Credential, addresses: Sequence[str]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns, and up to `max_rows` + 1 rows."""
    try:
        with closing(psycopg.connect(**_connection(inputs, credential, addresses))) as connection:
            connection.read_only = True
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL search_path TO pg_catalog")  # only PostgreSQL's own functions are found
                refuse_more_than_reading(connection, inputs.database)
            with connection.transaction(force_rollback=True):
                return _rows(connection, inputs)
    except psycopg.errors.QueryCanceled:
        raise Transient(f"the query took longer than {inputs.timeout:g} s") from None
    except psycopg.OperationalError as error:
        raise _connection_error(error, inputs) from None
    except psycopg.Error as error:
        raise BadInput(f"query: {error.diag.message_primary or str(error).strip()}") from None


def _connection(inputs: SQLQuery.Input, credential: Credential, addresses: Sequence[str]) -> dict[str, Any]:
    """The connection's parameters. Any that is missing, libpq would take from the worker's environment and home."""
    if not credential.username or not credential.password:
        raise BadInput(f"the credential {credential.provider} needs a username and a password")
    wanted = parse_qs(urlsplit(credential.base_url).query)
    return {
        "host": ",".join([inputs.host] * len(addresses)),  # the name that TLS verifies, once per address
        "hostaddr": ",".join(addresses),  # the checked addresses
        "port": inputs.port or _PORT,
        "dbname": inputs.database,
        "user": credential.username,
        "password": credential.password,
        "connect_timeout": _CONNECT_SECONDS,
        "options": f"-c default_transaction_read_only=on -c statement_timeout={math.ceil(inputs.timeout * 1000)}",
        "application_name": "agentflow",
        "client_encoding": "utf8",
        "passfile": os.devnull,
        "require_auth": "scram-sha-256",
        "gssencmode": "disable",
        "sslmode": wanted.get("sslmode", ["prefer"])[0],
        "sslrootcert": wanted.get("sslrootcert", ["system" if wanted.get("sslmode") == ["verify-full"] else ""])[0],
        "sslcertmode": "disable",
        "keepalives_idle": 30,
        "tcp_user_timeout": math.ceil((inputs.timeout + _CONNECT_SECONDS) * 1000),
    }


def _rows(connection: Any, inputs: SQLQuery.Input) -> tuple[list[str], list[tuple[Any, ...]]]:
    # The user writes the query. The role limits what it may do; the protocol makes sure that it is one statement.
    query = inputs.query.strip().rstrip("; \t\r\n")
    wanted = f"SELECT * FROM (\n{query}\n) AS asked LIMIT ".encode()  # noqa: S608
    parameters = _bound(inputs.parameters)
    # Without rows first, because a result that streams no rows does not tell its columns.
    described = connection.execute(wanted + b"0", parameters, prepare=True).description or ()
    columns = [column.name for column in described]
    if len(set(columns)) < len(columns):
        raise BadInput("query: two of its columns have one name; give them names with AS")
    rows: list[tuple[Any, ...]] = []
    room = most = settings().http_max_bytes
    with connection.cursor() as cursor:
        for row in cursor.stream(wanted + b"%d" % (inputs.max_rows + 1), parameters):
            room -= sum(len(cursor.pgresult.get_value(0, at) or b"") for at in range(len(columns)))
            if room < 0:
                raise BadInput(f"query: the rows have more than {most} bytes")
            rows.append(row)
    return columns, rows


def _bound(parameters: list[Any] | dict[str, Any] | None) -> list[Any] | dict[str, Any] | None:
    """The parameters as psycopg binds them: dictionaries as JSON values, lists as arrays."""

    def bound(value: Any) -> Any:
        return Jsonb(value) if isinstance(value, dict) else value

    if isinstance(parameters, dict):
        return {name: bound(value) for name, value in parameters.items()} or None
    return [bound(value) for value in parameters or []] or None


def _connection_error(error: Any, inputs: SQLQuery.Input) -> BadInput | Transient:
    code = error.sqlstate or ""
    told = str(error)
    if "certificate" in told:
        return BadInput(f"the TLS certificate of {inputs.host} cannot be trusted")
    if "authentication method requirement" in told:
        return BadInput(f"{inputs.host} does not take the password by SCRAM, and it is not sent in another way")
    if code.startswith(("28", "3D")) or "authentication failed" in told or "does not exist" in told:
        return BadInput(f"{inputs.host} does not let this role into the database {inputs.database}")
    return Transient(f"{inputs.host} cannot be reached on port {inputs.port or _PORT}, or has cut the connection")


def _plain(value: Any) -> Any:
    """A PostgreSQL value as JSON. A number that a float would change becomes text."""
    if isinstance(value, Decimal):
        number = float(value) if value.is_finite() else value
        return number if isinstance(number, float) and Decimal(str(number)) == value else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
