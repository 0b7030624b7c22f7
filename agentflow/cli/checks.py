"""Checks an installation for `agentflow doctor`, one function per aspect, and suggests remedies.

Checks must not change anything, and messages must not contain passwords.
"""

import http.client
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID

import psycopg2
import redis
from celery import Celery
from kombu import Connection
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from agentflow import __version__
from agentflow.blocks import registry
from agentflow.dispatch.publish import is_redis, patience
from agentflow.embedded.binaries import OLDEST_POSTGRES, postgres_binaries, valkey_binary
from agentflow.embedded.lock import Occupancy, occupancy
from agentflow.errors import AgentFlowError, EngineError, Transient
from agentflow.extras import install_command
from agentflow.graph.nearly import meant
from agentflow.moderation import checking
from agentflow.proof import answers, is_own
from agentflow.settings import Settings
from agentflow.storage.connect import engine
from agentflow.storage.migrate import check as check_schema

_PREFIX = "AGENTFLOW_"  # of the environment variables that are settings
_TIMEOUT = 3.0  # seconds per network request
_LOW_DISK, _NO_DISK = 2 * 1024**3, 200 * 1024**2  # bytes
_CLOCK_SECONDS = 2.0
_MOST_QUEUES = 10  # that are named
_MOST_DISAGREEMENTS = 10  # of the ledger of credits, that are told
_MOST_UNREADABLE = 10  # credentials that are named
_OLDEST_REDIS = (6, 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked.
        level: "ok"; "warn": it works, with a caveat; "fail": something does not work.
        message: what was found.
        remedy: what to do about it; empty if nothing.
    """

    name: str
    level: Literal["ok", "warn", "fail"]
    message: str
    remedy: str = ""


def findings(settings: Settings) -> Iterator[Finding]:
    """Run all checks in turn, and yield each result at once."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _versions, _variables, _blocks, _credentials, _stack, _disk, _database, _key_ring, _credits, _broker,
        _moderation, _notifications, _workers, _queues, _api, _live,
    )  # fmt: skip
    for check in checks:
        yield from check(settings)


def _versions(settings: Settings) -> Iterator[Finding]:
    yield Finding(
        "versions", "ok", f"AgentFlow {__version__}, Python {platform.python_version()}, {platform.platform()}"
    )


def _variables(settings: Settings) -> Iterator[Finding]:
    """Find AGENTFLOW_ variables that nothing reads: they are probably misspelt."""
    known = [*(field.upper() for field in Settings.model_fields), "PROFILE"]  # the command line's own
    for name in sorted(os.environ):
        field = name.upper().removeprefix(_PREFIX)
        if name.upper().startswith(_PREFIX) and field not in known:
            found = meant(field, known)
            remedy = f"did you mean {_PREFIX}{found}?" if found else "take it away: README.md lists the settings"
            yield Finding("settings", "warn", f"{name} is no setting, and has no effect", remedy)


def _credentials(settings: Settings) -> Iterator[Finding]:
    """Find operator's credentials that no block asks for."""
    from agentflow.credentials.system import nobodys_credentials  # here, because it loads every block

    if unknown := nobodys_credentials(settings.credentials):
        remedy = (
            "correct their names or types in AGENTFLOW_CREDENTIALS: `agentflow blocks show` says what a block takes"
        )
        yield Finding("credentials", "warn", f"no block takes {', '.join(unknown)}", remedy)
    else:
        yield Finding("credentials", "ok", f"{len(settings.credentials)}, each taken by a block")


def _blocks(settings: Settings) -> Iterator[Finding]:
    """Find packages whose blocks cannot be loaded, and are therefore not available."""
    if not (broken := registry.left_out()):
        message = f"{len(registry.every())} blocks are installed (what runs has those of its start); none is left out"
        yield Finding("block packages", "ok", message)
    for one in broken:
        message = f"the blocks of {one.package} (entry point {one.entry_point!r}) are left out: {one.reason}"
        yield Finding("block packages", "fail", message, "mend or remove that package, then start everything again")


def _stack(settings: Settings) -> Iterator[Finding]:
    """Check the local stack: its server programs, if they are needed, and whether it runs."""
    if settings.database_url and settings.broker_url:
        yield Finding("local stack", "ok", "not used: the addresses of both servers are set")
        return
    try:
        postgres = None if settings.database_url else postgres_binaries()
        valkey = None if settings.broker_url else valkey_binary()
    except AgentFlowError as error:
        yield Finding("server programs", "fail", error.message, install_command("embedded"))
        return
    found = [f"PostgreSQL {postgres.major}"] if postgres else []
    found += [valkey.name] if valkey else []
    yield Finding("server programs", "ok", ", ".join(found))
    yield _occupancy(settings.data_dir.absolute())


def _occupancy(data_dir: Path) -> Finding:
    match occupancy(data_dir):
        case Occupancy.RUNNING:
            return Finding("local stack", "ok", f"runs from {data_dir}")
        case Occupancy.CRASHED:
            message = f"the one in {data_dir} died without stopping"
            return Finding("local stack", "warn", message, "start `agentflow up` again: it puts things right")
        case Occupancy.FREE:
            remedy = "start `agentflow up`, or set AGENTFLOW_DATABASE_URL and AGENTFLOW_BROKER_URL"
            return Finding("local stack", "warn", f"none runs from {data_dir}", remedy)


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    level: Literal["ok", "warn", "fail"] = "fail" if free < _NO_DISK else "warn" if free < _LOW_DISK else "ok"
    yield Finding("disk", level, f"{free / 1024**3:.1f} GB free at {folder}", "" if level == "ok" else "make room")


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        url = settings.database()
        with closing(_connect(url)) as connection:
            yield from _server(connection, make_url(url).set(drivername="postgresql").render_as_string())
        check_schema(url)
    except EngineError as error:
        remedy = "agentflow db upgrade" if "schema" in error.message else "see the message"
        yield Finding("database", "fail", error.message, remedy)
    except psycopg2.OperationalError as error:
        yield Finding("database", "fail", str(error).strip(), "start PostgreSQL, or correct AGENTFLOW_DATABASE_URL")
    else:
        yield Finding("schema", "ok", "this version's")


def _connect(url: str) -> "psycopg2.extensions.connection":
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg2.connect(dsn, connect_timeout=int(_TIMEOUT))


def _server(connection: "psycopg2.extensions.connection", address: str) -> Iterator[Finding]:
    major = connection.server_version // 10_000
    level: Literal["ok", "fail"] = "ok" if major >= OLDEST_POSTGRES else "fail"
    remedy = "" if level == "ok" else f"AgentFlow needs PostgreSQL {OLDEST_POSTGRES} or later"
    yield Finding("database", level, f"PostgreSQL {major} at {address}", remedy)
    with connection.cursor() as cursor:
        before = time.time()
        cursor.execute("select extract(epoch from clock_timestamp())::float8")
        row = cursor.fetchone()
        middle = (before + time.time()) / 2
    apart = abs(float(row[0]) - middle) if row else 0.0
    message = f"this host's and the database's are {apart:.1f} s apart"
    if apart > _CLOCK_SECONDS:
        yield Finding("clock", "warn", message, "set both by NTP: waiting times and logs are told by them")
    else:
        yield Finding("clock", "ok", message)


def _broker(settings: Settings) -> Iterator[Finding]:
    try:
        url = settings.broker()
        with Connection(url, connect_timeout=_TIMEOUT, transport_options=patience(url, _TIMEOUT)) as connection:
            connection.ensure_connection(max_retries=1, timeout=_TIMEOUT)
            connection.default_channel.close()
            address = connection.as_uri()
        yield Finding("broker", "ok", address)
        if is_redis(url):
            yield from _redis(url)
    except EngineError as error:
        yield Finding("broker", "fail", error.message)
    except Exception as error:  # any error of the broker's client
        yield Finding("broker", "fail", f"cannot be reached: {error}", "start it, or correct AGENTFLOW_BROKER_URL")


def _redis(url: str) -> Iterator[Finding]:
    with redis.Redis.from_url(url, socket_timeout=_TIMEOUT) as client:
        info = client.info()
    version = str(info.get("valkey_version") or info["redis_version"])
    name = f"{'Valkey' if 'valkey_version' in info else 'Redis'} {version}"
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_REDIS:
        yield Finding("broker version", "fail", name, "AgentFlow needs Redis 6.2 or later, or Valkey")
    elif (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        remedy = "set maxmemory-policy noeviction: the broker throws messages away when its memory is full"
        yield Finding("broker version", "warn", f"{name}, maxmemory-policy {policy}", remedy)
    else:
        yield Finding("broker version", "ok", name)


def _moderation(settings: Settings) -> Iterator[Finding]:
    """See whether the moderator can be used: no worker starts without. A service is not asked: a call may cost."""
    if settings.moderation is None:
        return
    try:
        checking.check_setting()
    except EngineError as error:
        yield Finding("moderation", "fail", error.message, "correct it: no worker starts with it")
    else:
        yield Finding("moderation", "ok", f"on; a moderator that fails: {settings.moderation_failure}")


def _notifications(settings: Settings) -> Iterator[Finding]:
    """Try the mail server and the login there, and the operator's templates. No mail is sent."""
    from agentflow.notifications import by_email, rendering  # here, as the others that only some need

    if settings.smtp_host is None:
        yield Finding("notifications", "ok", "none by e-mail (AGENTFLOW_SMTP_HOST)")
    else:
        try:
            by_email.try_out(settings, _TIMEOUT)
        except Transient as error:
            yield Finding("notifications", "fail", error.message, "correct AGENTFLOW_SMTP_…: no e-mail is sent so")
        else:
            where = f"{settings.smtp_host}:{settings.smtp_port}"
            yield Finding("notifications", "ok", f"by e-mail from {settings.mail_from}, through {where}")
    for fault in rendering.faults(settings.notification_templates):
        remedy = "correct it in AGENTFLOW_NOTIFICATION_TEMPLATES: until then ours is used"
        yield Finding("templates", "warn", fault, remedy)


def _workers(settings: Settings) -> Iterator[Finding]:
    """Ping all workers through the broker."""
    try:
        # A separate app: the real one ends the process if an address is missing.
        app = Celery("doctor", broker=settings.broker(), set_as_current=False)
        app.conf.broker_transport_options = patience(settings.broker(), _TIMEOUT)
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_TIMEOUT)
            answers = app.control.ping(timeout=1.0, connection=connection) or []
    except Exception as error:  # the check of the broker has reported the cause
        yield Finding("workers", "fail", f"cannot be asked: {error}", "put the broker right first")
        return
    names = sorted(name for answer in answers for name in answer)
    if names:
        yield Finding("workers", "ok", f"{len(names)} answered: {', '.join(names)}")
    else:
        yield Finding("workers", "warn", "none answered within a second", "start `agentflow worker` or `agentflow up`")


def _queues(settings: Settings) -> Iterator[Finding]:
    """Find queues with waiting work that no worker serves."""
    from agentflow.services import lanes  # here, because it loads every block

    try:
        with Session(engine(settings.database())) as session:
            missing = lanes.wanted(session)
    except (EngineError, SQLAlchemyError):
        return  # the check of the database has reported it
    if not missing:
        yield Finding("queues", "ok", "no work waits in a queue that no worker serves")
    for lane in missing[:_MOST_QUEUES]:
        message = f"work waits in the queue {lane!r}, which no worker serves"
        yield Finding("queues", "warn", message, f"start one: agentflow worker -Q {lane}")


def _key_ring(settings: Settings) -> Iterator[Finding]:
    """Find stored credentials that the keys of this installation do not decrypt, or that need an older one."""
    from agentflow.credentials import rotation  # here, as the others that read tables

    number, older, after = 0, 0, None
    unreadable: list[UUID] = []
    try:
        with Session(engine(settings.database())) as session:
            while True:
                batch = rotation.examine_batch(session, after)
                number, older, after = number + batch.number, older + batch.older, batch.last
                unreadable += batch.unreadable
                session.expunge_all()
                if after is None:
                    break
    except (EngineError, SQLAlchemyError):
        return  # the check of the database has reported it
    if unreadable:
        named = ", ".join(map(str, unreadable[:_MOST_UNREADABLE]))
        message = f"{len(unreadable)} of {number} stored credentials cannot be decrypted: {named}"
        remedy = "put their key back into AGENTFLOW_CREDENTIAL_KEYS, or have their owners store them anew"
        yield Finding("key ring", "fail", message, remedy)
    elif older:
        message = f"{older} of {number} stored credentials are not under the newest key"
        yield Finding("key ring", "warn", message, "agentflow credentials rotate")
    elif settings.credential_key_ring():
        yield Finding("key ring", "ok", f"decrypts all stored credentials ({number})")
    else:
        yield Finding("key ring", "ok", "none: no credentials can be stored (AGENTFLOW_CREDENTIAL_KEYS)")


def _credits(settings: Settings) -> Iterator[Finding]:
    """Hold the ledger of credits against the balances and the node executions."""
    from agentflow.credits import store  # here, as the others that read tables

    try:
        with Session(engine(settings.database())) as session:
            found = store.disagreements(session, _MOST_DISAGREEMENTS)
    except (EngineError, SQLAlchemyError):
        return  # the check of the database has reported it
    state = "on" if settings.credits else "off"
    if not found:
        yield Finding("credits", "ok", f"{state}; ledger, balances and node executions agree")
    for what in found:
        remedy = "keep a copy of the database, and find out who wrote to it besides AgentFlow"
        yield Finding("credits", "fail", what, remedy)


def _api(settings: Settings) -> Iterator[Finding]:
    stack = settings.stack if occupancy(settings.data_dir) is Occupancy.RUNNING else {}
    given = "url" in settings.model_fields_set
    url = settings.url if given or "url" not in stack else stack["url"]
    own = url == stack.get("url")
    if own and "stack_secret" in stack and not is_own(url, stack["stack_secret"]):
        if answers(url):
            message = f"what answers at {url} is not the API of this folder's stack: another program has its port"
            yield Finding("API", "fail", message, "stop that program, or start `agentflow up` again")
        else:
            yield Finding("API", "warn", f"does not answer at {url}", "see the logs of `agentflow up`")
        return
    try:
        status, body = _get(url, "/readyz")
        checks = json.loads(body).get("checks", {})
        if not isinstance(checks, dict):
            raise ValueError("checks are not what they should be")
    except (ValueError, AttributeError):
        level: Literal["warn", "fail"] = "fail" if own or given else "warn"
        remedy = "correct AGENTFLOW_URL" if given else "start `agentflow up`: it takes another port"
        yield Finding("API", level, f"what answers at {url} is not AgentFlow", remedy)
        return
    except (OSError, http.client.HTTPException) as error:
        yield Finding("API", "warn", f"does not answer at {url}: {error}", "start `agentflow up`, or set AGENTFLOW_URL")
        return
    wrong = [f"{name}: {said}" for name, said in checks.items() if said != "ok"]
    if status == http.HTTPStatus.OK and not (own or given):
        message = f"an AgentFlow answers at {url}, but it is not this folder's: none runs from here"
        yield Finding("API", "warn", message, "start `agentflow up`, or set AGENTFLOW_URL and AGENTFLOW_API_KEY")
    elif status == http.HTTPStatus.OK:
        yield Finding("API", "ok", url)
    else:
        yield Finding("API", "fail", f"{url} is not ready: {'; '.join(wrong) or status}", "put that right first")


def _live(settings: Settings) -> Iterator[Finding]:
    """Ask the live process to which the API hands streams over, where there is one."""
    url = settings.live_url
    if url is None:
        return  # the local stack looks after its own
    try:
        status, body = _get(url, "/healthz")
        if status != http.HTTPStatus.OK or "version" not in json.loads(body):
            raise ValueError("it is something else")
    except ValueError:
        yield Finding("live updates", "fail", f"what answers at {url} is no live process", "correct AGENTFLOW_LIVE_URL")
    except (OSError, http.client.HTTPException) as error:
        remedy = "start `python -m agentflow.live`, or correct AGENTFLOW_LIVE_URL: until then the API streams itself"
        yield Finding("live updates", "warn", f"no live process answers at {url}: {error}", remedy)
    else:
        yield Finding("live updates", "ok", url)


def _get(url: str, path: str) -> tuple[int, bytes]:
    """One GET request, without proxies."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", parts.path.rstrip("/") + path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
