"""Configures gunicorn: `gunicorn -c python:agentflow.api.gunicorn agentflow.api.wsgi:app`.

gunicorn binds the address (`--bind`), supervises the processes and shuts them down; in each process waitress serves
(`server.py`), because no worker class of gunicorn reads a request whole before it assigns a thread, or has a deadline
for headers. The server waits for the database, and refuses to start if its schema is wrong.
"""

import sys
from typing import Any

from agentflow.errors import EngineError
from agentflow.moderation import checking as moderation
from agentflow.services.readiness import await_database

worker_class = "agentflow.api.server.WaitressWorker"
workers = 1  # raise it (--workers) to use more cores; rate limits and event streams are counted per process
graceful_timeout = 10  # seconds for running requests to finish
timeout = 60  # seconds after which a worker process that sends no heartbeat is replaced; a request may take longer


def on_starting(server: Any) -> None:
    """Wait for the database. Exit if it refuses us or has the wrong schema, or if moderation cannot be used.

    Without moderation no worker starts either: what the API took would wait, and nobody would know why.
    """
    try:
        moderation.check_setting()
        await_database(_say)
    except EngineError as error:
        sys.exit(f"agentflow: the API does not start: {error.message}")


def _say(line: str) -> None:
    print(f"agentflow: the API is {line}", file=sys.stderr, flush=True)  # noqa: T201
