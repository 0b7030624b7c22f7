"""Handles Celery's signals: a worker starts, forks a child, and stops."""

import gc
import logging
import resource
import sys
from typing import Any

from celery import signals
from celery.concurrency import get_implementation, prefork, solo

from agentflow.blocks import registry
from agentflow.dispatch.publish import publisher
from agentflow.dispatch.watching import bell, expect_watchers, follow_watchers
from agentflow.errors import EngineError
from agentflow.logs import FORMAT, FieldsFormatter, keep_handlers, silence_http_libraries
from agentflow.moderation import checking as moderation
from agentflow.settings import settings
from agentflow.storage.connect import after_fork
from agentflow.storage.migrate import await_schema
from agentflow.worker import cold_shutdown
from agentflow.worker.execute import interrupts
from agentflow.worker.keeper import keeper
from agentflow.worker.process import name_main_process, process
from agentflow.worker.queues import lanes_of
from agentflow.worker.shutdown import say_stopping

_MIB = 1024 * 1024


def connect() -> None:
    """Connect what follows to Celery's signals."""
    signals.after_setup_logger.connect(_show_fields, weak=False)
    signals.after_setup_task_logger.connect(_show_fields, weak=False)
    signals.worker_init.connect(_before_forking, weak=False)
    signals.worker_process_init.connect(_in_child, weak=False)
    signals.worker_ready.connect(_when_ready, weak=False)
    signals.worker_shutting_down.connect(_when_told_to_stop, weak=False)
    signals.worker_shutdown.connect(_when_stopping, weak=False)


def _show_fields(logger: logging.Logger, **_: Any) -> None:
    silence_http_libraries()
    for handler in logger.handlers:
        handler.setFormatter(FieldsFormatter(FORMAT))


def _before_forking(sender: Any, **_: Any) -> None:
    """Wait for the database, refuse one of another version, and load what the children will share."""
    try:
        await_schema(settings().database(), settings().database_patience, _say)
        registry.every()
        moderation.check_setting()
    except EngineError as error:
        sys.exit(f"agentflow: this worker does not start: {error.message}")
    # What is loaded by now stays: garbage collections must not traverse it again, nor copy its pages into a child.
    gc.collect()
    gc.freeze()
    name_main_process(str(sender))
    expect_watchers()
    chosen = get_implementation(sender.pool_cls)
    if issubclass(chosen, solo.TaskPool):
        interrupts().install()
    elif not issubclass(chosen, prefork.TaskPool):
        # Blocks are stopped by signals, which reach main threads only, and a thread cannot be killed.
        pool = chosen.__module__.rpartition(".")[2]
        sys.exit(f"agentflow: this worker does not start: the pool {pool!r} cannot stop a block; use prefork or solo")


def _say(line: str) -> None:
    print(f"agentflow: this worker is {line}", file=sys.stderr, flush=True)  # noqa: T201 - nothing is set up to log yet


def _in_child(**_: Any) -> None:
    after_fork()
    publisher.cache_clear()
    bell.cache_clear()
    process.cache_clear()
    limit = settings().child_memory_mb * _MIB
    # Counts private writable memory: a block that takes more gets a MemoryError before the host's OOM killer acts.
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    interrupts().install()
    keep_handlers()


def _when_ready(sender: Any, **_: Any) -> None:
    follow_watchers()
    keeper().start(lambda: lanes_of(sender))
    if isinstance(sender.pool, prefork.TaskPool):
        cold_shutdown.defer(sender)


def _when_told_to_stop(**_: Any) -> None:
    say_stopping()


def _when_stopping(**_: Any) -> None:
    keeper().stop()
