"""How does gunicorn serve the API? `gunicorn -c python:agentflow.api.gunicorn agentflow.api.wsgi:app`.

It binds the address (`--bind`), looks after the processes, and stops them in order; in each of them waitress serves
(`server.py`). None of gunicorn's own kinds of worker reads a request whole before it gives it a thread, or has a
deadline for headers. It serves once the database is there; one that is not in order
stops it before the first request.
"""

import sys
from typing import Any

from agentflow.errors import EngineError
from agentflow.services.readiness import await_database

worker_class = "agentflow.api.server.WaitressWorker"
workers = 1  # raise it (--workers) for more than one core; rate limits and event streams are counted per process
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
