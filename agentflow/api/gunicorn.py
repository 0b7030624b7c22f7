"""How does gunicorn serve the API? `gunicorn -c python:agentflow.api.gunicorn agentflow.api.wsgi:app`.

Threads, because requests wait for PostgreSQL and event streams wait for events. The address comes from the command
line (`--bind`). A wrong schema stops it before the first request.
"""

import sys
from typing import Any

from agentflow.errors import Unavailable, WrongSchema
from agentflow.services.readiness import refuse_wrong_schema
from agentflow.settings import settings

worker_class = "gthread"
workers = 1  # raise it (--workers) for more than one core; rate limits and event streams are counted per process
threads = settings().web_threads
keepalive = 75  # seconds; longer than load balancers keep idle connections
graceful_timeout = 10  # seconds in which running requests may end
timeout = 60  # seconds after which a silent worker process is replaced; a request may take longer


def on_starting(server: Any) -> None:
    """Refuse to start on a schema that is not this version's."""
    try:
        refuse_wrong_schema()
    except WrongSchema as error:
        sys.exit(f"agentflow: {error}")
    except Unavailable as error:  # it may come; until then requests get a 503, and /readyz says so
        print(f"agentflow: {error}", file=sys.stderr)  # noqa: T201
