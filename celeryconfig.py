"""Configures Celery. Operators may copy and change this file.

A celeryconfig.py in the folder where a process starts overrides the shipped one setting by setting, so yours may be
three lines long. Addresses and secrets belong in the environment (AGENTFLOW_BROKER_URL). All settings:
https://docs.celeryq.dev/en/stable/userguide/configuration.html

Celery only tells workers that there is work; PostgreSQL holds all state. A message says "node execution X is ready" and
nothing else. It may be lost, duplicated or late, and the run still ends correctly. So these settings affect speed and
timeouts, not correctness.
"""

# ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────
# Fixed: AgentFlow overrides any other value of these settings, because the engine depends on them.
#
# JSON only (fixed): a worker that accepts pickle would run any code that somebody puts into the broker.
task_serializer = "json"
accept_content = ["json"]
result_serializer = "json"
event_serializer = "json"

# No results (fixed): PostgreSQL stores what a node execution returned; a copy in Celery would only cost time.
result_backend = None
task_ignore_result = True

timezone = "UTC"
enable_utc = True

# The queues (fixed): one per lane: `agentflow.default`, `agentflow.io`, `agentflow.cpu`; and `agentflow.<name>` for a
# lane of your own. A worker serves the first three unless it is started with -Q (or CELERY_WORKER_QUEUES).

# ── When a worker dies ───────────────────────────────────────────────────────────────────────────────────────────────
# Fixed: a message is acknowledged after its task has ended. If the child process that ran it was killed, the worker's
# main process returns the lease and publishes anew: another child takes it at once, instead of after the lease expires.
# Lost leases are counted, so what kills its worker cannot loop for ever.
task_acks_late = True
task_reject_on_worker_lost = True
# A task that raised or hit a time limit is acknowledged too: the state of its node execution is in PostgreSQL, and
# recovery handles the rest.
task_acks_on_failure = True
task_acks_on_timeout = True

# ── The broker ───────────────────────────────────────────────────────────────────────────────────────────────────────
broker_transport_options = {
    # (Key names cannot be set here: publishers and consumers must agree on them.)
    # Seconds after which Redis redelivers an unacknowledged message. Only a worker whose host died leaves such
    # messages, and recovery publishes their work again long before. If a block runs longer than this, the second
    # message finds the lease taken and is dropped. Leases decide, not this number.
    "visibility_timeout": 3600,
    # Seconds after which a broker that vanished without closing its connections is noticed. Without it: never.
    "socket_timeout": 15,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
# Reconnect without limit, at start and later.
broker_connection_retry_on_startup = True
broker_connection_retry = True
broker_connection_max_retries = None
broker_connection_timeout = 5
# Seconds after which a publisher that gets no connection gives up (Celery's default: never). A failed publish does not
# fail a run: recovery finds what is ready and publishes it again.
broker_pool_limit = 10
broker_pool_acquire_timeout = 5
task_publish_retry = True
task_publish_retry_policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}

# ── Workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
# A worker holds up to (this × its children) messages, including running ones. With 1 it prefetches none, so no message
# waits behind a slow block while another worker is idle. A larger value saves short blocks a wait.
worker_prefetch_multiplier = 1
# Graceful shutdown. SIGTERM: take nothing new, finish running tasks, exit. SIGQUIT (or SIGTERM with
# REMAP_SIGTERM=SIGQUIT, for hosts that kill after a fixed time): finish within these seconds, then return the rest to
# the broker and exit.
worker_soft_shutdown_timeout = 5.0
# A child process is replaced after this many tasks, or if it holds more memory than this (KiB) after a task: blocks may
# leak. The hard limit while a block runs is AGENTFLOW_CHILD_MEMORY_MB.
worker_max_tasks_per_child = 10_000
worker_max_memory_per_child = 512 * 1024
# A lost broker connection does not interrupt long tasks: their leases are in PostgreSQL.
worker_cancel_long_running_tasks_on_connection_loss = False
# No task has an eta or a countdown: timers are rows in PostgreSQL. Stray ones must not fill the memory.
worker_eta_task_limit = 1000

# ── Monitoring ───────────────────────────────────────────────────────────────────────────────────────────────────────
# Events for Flower cost a few per cent. Workers start without them; a running Flower switches them on in all workers
# every few seconds. Set True for a monitor that does not.
worker_send_task_events = False
task_send_sent_event = False
# AgentFlow configures logging (one line per event, with fields): Celery adds no handlers to the root logger.
worker_hijack_root_logger = False
# What a block's library prints is logged at level INFO.
worker_redirect_stdouts = True
worker_redirect_stdouts_level = "INFO"
