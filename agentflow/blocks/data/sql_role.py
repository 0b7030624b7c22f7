"""Refuses database roles that may change anything, and AgentFlow's own database.

All roles that a role may become are checked, because a query can switch to one (`set_config('role', …)`). Refused are:
superusers, and attributes to create roles, databases and replicas or to bypass row security; predefined roles that
write, run programs or access the server's files; any right to write to a table, view, column, sequence or foreign
table; the right to create something in a schema or the database; and ownership of any of these, since owners can grant
themselves rights. Not checked, because the server cannot tell: what functions do that run with their owner's rights.
"""

import socket
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from agentflow.errors import BadInput, EngineError
from agentflow.settings import settings

_PORT: Final = 5432

_IS_OURS: Final = """
SELECT count(DISTINCT relname) = 2 FROM pg_class
WHERE relkind IN ('r', 'p', 'f', 'v', 'm') AND relname IN ('engine_functions', 'node_executions')
"""

_MAY_WRITE: Final = """
WITH roles AS (
    SELECT oid, rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS mighty
    FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')
), schemas AS (
    SELECT oid, nspname, nspowner FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
), relations AS (
    SELECT c.oid, c.relkind, c.relowner, nspname || '.' || relname AS name
    FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
)
SELECT 'it is, or may become, ' || rolname FROM roles
WHERE mighty OR rolname IN ('pg_write_all_data', 'pg_execute_server_program', 'pg_read_server_files',
    'pg_write_server_files', 'pg_maintain', 'pg_database_owner', 'pg_signal_backend', 'pg_create_subscription')
UNION ALL
SELECT 'it may write to ' || name FROM relations, roles WHERE relkind <> 'S' AND (
    relowner = roles.oid OR has_table_privilege(roles.oid, relations.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
    OR has_any_column_privilege(roles.oid, relations.oid, 'INSERT, UPDATE'))
UNION ALL
SELECT 'it may write to ' || name FROM relations, roles WHERE relkind = 'S' AND (
    relowner = roles.oid OR has_sequence_privilege(roles.oid, relations.oid, 'USAGE, UPDATE'))
UNION ALL
SELECT 'it may make things in the schema ' || nspname FROM schemas, roles
WHERE nspowner = roles.oid OR has_schema_privilege(roles.oid, schemas.oid, 'CREATE')
UNION ALL
SELECT 'it may make things in the database' FROM roles WHERE has_database_privilege(oid, current_database(), 'CREATE')
LIMIT 1
"""
"""Finds one thing that a role could change if its transaction were not read-only."""


def refuse_more_than_reading(connection: Any, database: str) -> None:
    """Refuses a connection to AgentFlow's own database, or by a role that may change something.

    Args:
        connection: of psycopg, in a transaction whose search path finds PostgreSQL's own functions first.
        database: its name, for the message.

    Raises:
        BadInput: it is AgentFlow's own database, or the role may change something.
    """
    if connection.execute(_IS_OURS).fetchone()[0]:
        raise BadInput(f"database: {database} is AgentFlow's own, which nobody asks but AgentFlow")
    found = connection.execute(_MAY_WRITE).fetchone()
    if found is not None:
        raise BadInput(f"credentials: this role may do more than read ({found[0]}); give one with SELECT only")


def refuse_our_own(addresses: Collection[str], port: int, database: str) -> None:
    """Refuses AgentFlow's own database by its address, before a password is sent.

    Raises:
        BadInput: it is the database in the settings.
    """
    try:
        url = urlsplit(settings().database())
    except EngineError:  # no database is configured: a trial of a block
        return
    options = parse_qs(url.query)
    name = options.get("dbname", [url.path[1:]])[0]
    host = options.get("host", [url.hostname or ""])[0]
    if host.startswith("/") or not host or name != database:
        return  # ours listens on no network address, or has another name; `refuse_more_than_reading` checks as well
    with suppress(OSError, UnicodeError):
        known = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        if known & set(addresses) and int(options.get("port", [url.port or _PORT])[0]) == port:
            raise BadInput(f"database: {database} is AgentFlow's own, which nobody asks but AgentFlow")
