"""The application as a WSGI server loads it: `gunicorn -c python:agentflow.api.gunicorn agentflow.api.wsgi:app`.

Event streams end, and what waits for a block is answered, as soon as the process is told to stop: the server would
wait for them until its patience ends.
"""

import signal
import threading
from typing import Any

from agentflow.api.app import create_app
from agentflow.api.places import closing


def _end_waiting_on(number: int) -> None:
    """Before what the server does on that signal, answer who waits."""
    before = signal.getsignal(number)

    def stop(received: int, frame: Any) -> None:
        closing.set()
        if callable(before):
            before(received, frame)

    signal.signal(number, stop)


app = create_app()

if threading.current_thread() is threading.main_thread():  # Python lets no other thread handle signals
    for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        _end_waiting_on(_number)
