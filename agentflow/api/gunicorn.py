"""How does gunicorn serve the API? `gunicorn -c python:agentflow.api.gunicorn agentflow.api.wsgi:app`.

Threads, because requests wait for PostgreSQL and event streams wait for events. The address comes from the command
line (`--bind`). It serves once the database is there; one that is not in order stops it before the first request.
"""

import sys
from typing import Any

from agentflow.errors import EngineError
from agentflow.services.readiness import await_database
from agentflow.settings import settings

worker_class = "gthread"
workers = 1  # raise it (--workers) for more than one core; rate limits and event streams are counted per process
threads = settings().web_threads
keepalive = 75  # seconds; longer than load balancers keep idle connections
graceful_timeout = 10  # seconds in which running requests may end
timeout = 60  # seconds after which a silent worker process is replaced; a request may take longer


def on_starting(server: Any) -> None:
    """Wait for the database; refuse to start on one that is not in order."""
    try:
        await_database(_say)
    except EngineError as error:
        sys.exit(f"agentflow: the API does not start: {error.message}")


def _say(line: str) -> None:
    print(f"agentflow: the API is {line}", file=sys.stderr, flush=True)  # noqa: T201
