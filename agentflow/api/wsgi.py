"""Provides the WSGI application: `gunicorn -c python:agentflow.api.gunicorn agentflow.api.wsgi:app`.

When the process is told to stop, it first ends event streams and answers requests that wait for a block. Otherwise the
server would wait for them until its graceful timeout.
"""

import signal
import threading
from typing import Any

from agentflow.api.app import create_app
from agentflow.api.places import closing


def _end_waiting_on(number: int) -> None:
    """Answer the waiting requests on that signal, before the server handles it."""
    before = signal.getsignal(number)

    def stop(received: int, frame: Any) -> None:
        closing.set()
        if callable(before):
            before(received, frame)

    signal.signal(number, stop)


app = create_app()

if threading.current_thread() is threading.main_thread():  # only the main thread can set signal handlers
    for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        _end_waiting_on(_number)
