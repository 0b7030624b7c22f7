"""Defines the Celery app: `celery -A agentflow worker`, `… flower`, `… inspect`.

Its configuration is the shipped `celeryconfig.py`, overlaid with one in the working directory. Names, serialisers,
queues and acknowledgement are set here, because the engine is wrong with any others.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from celery import Celery

from agentflow.dispatch.lanes import LANES, MOST_URGENT, NOTIFICATIONS, queue, queue_name
from agentflow.dispatch.transport import install
from agentflow.errors import EngineError
from agentflow.settings import settings
from agentflow.shipped import shipped
from agentflow.worker.queues import LaneAMQP

CONFIG_FILE = "celeryconfig.py"


def _configuration() -> dict[str, Any]:
    files = [shipped(CONFIG_FILE)]
    own = Path.cwd() / CONFIG_FILE
    if own.is_file() and own.resolve() != files[0].resolve():
        files.append(own)
    merged: dict[str, Any] = {}
    for file in files:
        merged |= {key: value for key, value in runpy.run_path(str(file)).items() if not key.startswith("_")}
    return {key: value for key, value in merged.items() if not callable(value) and type(value).__name__ != "module"}


def _fixed() -> dict[str, Any]:
    return {
        "broker_url": settings().broker(),
        "imports": ("agentflow.worker.tasks",),
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_queues": [queue(lane) for lane in (*LANES, NOTIFICATIONS)],
        "task_default_queue": queue_name(LANES[0]),
        "task_queue_max_priority": MOST_URGENT,  # also for lanes that only `-Q` names: all must declare a queue alike
    }


def _make() -> Celery:
    try:
        fixed = _fixed()
    except EngineError as error:
        sys.exit(f"agentflow: {error.message}")
    install()
    made = Celery("agentflow", set_as_current=True, amqp=LaneAMQP)
    made.config_from_object({"worker_pool": "agentflow.worker.pool:TaskPool", **_configuration(), **fixed})
    return made


def _guard_flower() -> None:
    """Protect Flower's /metrics with its password, too: they show everybody's work. Flower itself leaves them open."""
    monitor = sys.modules.get("flower.views.monitor")  # loaded by `celery`, which loads its plugins first
    if monitor is not None:
        from tornado.web import authenticated

        monitor.Metrics.get = authenticated(monitor.Metrics.get)


app = _make()
_guard_flower()

from agentflow.worker import signals  # noqa: E402  # connects itself to the app's signals

signals.connect()
