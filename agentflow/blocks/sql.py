"""The block that asks a PostgreSQL database, and can change nothing in it.

Read-only by role, not by looking at the query: the role that connects must have no right to write anything, and is
refused where it has; the transaction is read-only as well. The query is prepared, so it is one statement, inside a
SELECT, so it is one that gives rows; parameters are bound, never written into it. AgentFlow's own database is refused,
by whatever name it is reached: the server is asked which tables are in it. Needs the extra `sql` (psycopg).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.connecting import addresses_of, hold_to_its_server
from agentflow.blocks.credentials import Credential, credentials, provider_of
from agentflow.errors import BadInput, Transient

_PROVIDER: Final = "database"
_EXTRA: Final = "asking databases needs the extra `sql`: pip install 'agentflow[sql]'"
_EXAMPLE: Final = "postgresql://db.example.com:5432"
_MOST_ROWS: Final = 10_000
_CONNECT_SECONDS: Final = 10

_OURS: Final = """
SELECT count(DISTINCT relname) = 2 FROM pg_catalog.pg_class
WHERE relkind = 'r' AND relname IN ('engine_functions', 'node_executions')
"""

_MAY_WRITE: Final = """
SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
    OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname IN
        ('pg_write_all_data', 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
         'pg_maintain', 'pg_database_owner', 'pg_signal_backend')
        AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER'))
    OR EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname !~ '^pg_' AND pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
FROM pg_catalog.pg_roles WHERE rolname = current_user
"""
"""Whether the role could change anything if its transaction were not read-only."""

if TYPE_CHECKING:
    _Credentials = dict[str, Any] | None
else:
    _Credentials = credentials(_PROVIDER, types=("user_password",))


class SQLQuery(Block):
    id = "4dc35c0f-4fd8-465e-9616-5a216f1ba2bc"
    name = "SQLQuery"
    description = "Asks a PostgreSQL database with a role that may read only."
    categories = ("DATA",)
    timeout = 360

    class Input(BlockInput):
        query: str = Field(min_length=1, max_length=100_000, description="One SELECT; %s or %(name)s for parameters.")
        parameters: list[Any] | dict[str, Any] | None = Field(None, description="Their values, in order or by name.")
        database_type: str = Field("postgres", description="postgres; there is no other yet.")
        host: str = Field(min_length=1, max_length=255, description="The server.")
        port: int = Field(5432, ge=1, le=65_535, description="Its port.")
        database: str = Field(min_length=1, max_length=63, description="The database.")
        read_only: bool = Field(True, description="Only true is taken.")
        timeout: float = Field(30, gt=0, le=300, description="Seconds that the query may take.")
        max_rows: int = Field(1000, ge=1, le=_MOST_ROWS, description="Rows that are given, at most.")
        credentials: _Credentials = Field(None, description="Whose user name and password to use.")

    class Output(BlockOutput):
        results: list[dict[str, Any]] = Field(description="The rows: column → value.")
        columns: list[str] = Field(description="The columns, in order.")
        row_count: int = Field(description="How many rows are given.")
        truncated: bool = Field(description="Whether there were more.")

    # What needs a server to show is in the tests; these need none.
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
        hold_to_its_server(credential, inputs.host, inputs.port, _EXAMPLE)
        columns, rows = _ask(inputs, credential, addresses_of(inputs.host, inputs.port))
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
        import psycopg  # here, because it needs the extra
    except ImportError:
        raise BadInput(_EXTRA) from None
    milliseconds = math.ceil(inputs.timeout * 1000)
    try:
        with psycopg.connect(
            host=inputs.host,
            hostaddr=",".join(addresses[:1]),  # the very address that was checked; TLS verifies the name
            port=inputs.port,
            dbname=inputs.database,
            user=credential.username,
            password=credential.password,
            connect_timeout=_CONNECT_SECONDS,
            options=f"-c default_transaction_read_only=on -c statement_timeout={milliseconds}",
            application_name="agentflow",
        ) as connection:
            connection.read_only = True
            _refuse(connection, inputs)
            # The query is the user's to write; what it may do is the role's matter, and that it is one is prepare's.
            wanted = f"SELECT * FROM (\n{inputs.query}\n) AS asked LIMIT {inputs.max_rows + 1}"  # noqa: S608
            cursor = connection.execute(wanted.encode(), inputs.parameters or None, prepare=True)
            columns = [column.name for column in cursor.description or ()]
            if len(set(columns)) < len(columns):
                raise BadInput("query: two of its columns have one name; give them names with AS")
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return columns, rows
    except psycopg.errors.QueryCanceled:
        raise Transient(f"the query took longer than {inputs.timeout:g} s") from None
    except psycopg.OperationalError as error:
        raise _away(error, inputs) from None
    except psycopg.Error as error:
        raise BadInput(f"query: {error.diag.message_primary or str(error).strip()}") from None


def _refuse(connection: Any, inputs: SQLQuery.Input) -> None:
    """
    Raises:
        BadInput: it is AgentFlow's own database, or the role may write.
    """
    if connection.execute(_OURS).fetchone()[0]:
        raise BadInput(f"database: {inputs.database} is AgentFlow's own, which nobody asks but AgentFlow")
    if connection.execute(_MAY_WRITE).fetchone()[0]:
        raise BadInput("credentials: this role may do more than read; give one that has been granted SELECT only")


def _away(error: Any, inputs: SQLQuery.Input) -> BadInput | Transient:
    code = error.sqlstate or ""
    told = str(error)
    if code.startswith(("28", "3D")) or "authentication failed" in told or "does not exist" in told:
        return BadInput(f"{inputs.host} lets this role not into the database {inputs.database}")
    return Transient(f"{inputs.host} cannot be reached on port {inputs.port}, or has cut the connection")


def _plain(value: Any) -> Any:
    """A value of PostgreSQL's as JSON. A number that a float would alter is its text."""
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
