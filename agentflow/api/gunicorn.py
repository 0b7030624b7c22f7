"""How does gunicorn serve the API? `gunicorn -c python:agentflow.api.gunicorn agentflow.api.wsgi:app`.

Threads, because requests wait for PostgreSQL and event streams wait for events. The address comes from the command
line (`--bind`). A wrong schema stops it before the first request.
"""

import signal
import sys
from typing import Any

from agentflow.api import events
from agentflow.errors import AgentFlowError
from agentflow.services.readiness import refuse_wrong_schema
from agentflow.settings import settings

worker_class = "gthread"
workers = 1  # raise it (--workers) for more than one core; rate limits and event streams are counted per process
threads = settings().web_threads
keepalive = 75  # seconds; longer than load balancers keep idle connections
graceful_timeout = 10  # seconds in which running requests may end
timeout = 60  # seconds after which a silent worker process is replaced; a request may take longer
max_requests = 0


def on_starting(server: Any) -> None:
    """Refuse to start on a schema that is not this version's."""
    try:
        refuse_wrong_schema()
    except AgentFlowError as error:
        sys.exit(f"agentflow: {error}")


def post_worker_init(worker: Any) -> None:
    """End the event streams as soon as the process is told to stop; gunicorn would wait for them."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        before = signal.getsignal(number)

        def stop(received: int, frame: Any, before: Any = before) -> None:
            events.closing.set()
            if callable(before):
                before(received, frame)

        signal.signal(number, stop)
