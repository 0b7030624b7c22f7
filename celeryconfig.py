"""How Celery behaves: the operator's file. Read it, copy it, change it.

A file of this name in the folder where a process starts wins over the one that AgentFlow ships, name by name: yours may
hold three lines. Addresses and secrets are not here but in the environment (AGENTFLOW_BROKER_URL). What a name means:
https://docs.celeryq.dev/en/stable/userguide/configuration.html

Celery is the doorbell of AgentFlow, PostgreSQL is its memory. A message says "node execution X is ready" and nothing
else; it may be lost, come twice or come late, and the run still ends right. So nearly everything here is about speed
and about giving up in time; correctness does not depend on it.
"""

# ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────
# Fixed: AgentFlow sets what is marked so whatever is written here, because the engine would not be right without it.
#
# JSON only (fixed): a worker that accepts pickle runs whatever code somebody manages to put into the broker.
task_serializer = "json"
accept_content = ["json"]
result_serializer = "json"
event_serializer = "json"

# No results (fixed): what a node execution returned is a row in PostgreSQL, and Celery's copy of it would only cost.
result_backend = None
task_ignore_result = True

timezone = "UTC"
enable_utc = True

# The queues (fixed): one a lane, `agentflow.default`, `agentflow.io` and `agentflow.cpu`, and `agentflow.<name>` for a
# lane of your own. A worker serves the first three unless it is started with -Q (or CELERY_WORKER_QUEUES).

# ── When a worker dies ───────────────────────────────────────────────────────────────────────────────────────────────
# Fixed: a message is acknowledged when its task has ended, and goes back when the child process that ran it was killed:
# then another worker takes it at once and not when the lease has run out. Poison cannot loop: lost leases are counted.
task_acks_late = True
task_reject_on_worker_lost = True
# A task that raised or ran into a time limit is acknowledged all the same: what becomes of its node execution stands in
# PostgreSQL, or recovery sees to it.
task_acks_on_failure = True
task_acks_on_timeout = True

# ── The broker ───────────────────────────────────────────────────────────────────────────────────────────────────────
broker_transport_options = {
    # (How keys are called is no option here: those who publish and those who consume must agree on it.)
    # Seconds after which Redis hands a message that nobody acknowledged to another worker. Only a worker that died
    # whole (host and all) leaves such messages, and recovery has rung again long before; for a block that runs longer
    # the second message finds the lease taken and is dropped. Our leases decide, this number does not.
    "visibility_timeout": 3600,
    # A broker that vanished without closing its connections is noticed after so many seconds, instead of never.
    "socket_timeout": 15,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
# At start, and whenever the broker is away: try again and again.
broker_connection_retry_on_startup = True
broker_connection_retry = True
broker_connection_max_retries = None
broker_connection_timeout = 5
# Publishing that cannot get a connection gives up after so many seconds (the default is: never). A publish that failed
# fails no run: what is ready is found and published again.
broker_pool_limit = 10
broker_pool_acquire_timeout = 5
task_publish_retry = True
task_publish_retry_policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}

# ── Workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
# A worker holds up to (this × its children) messages, those that run among them. 1: it takes none ahead, so no message
# waits behind a slow block while another worker is idle. More saves short blocks the wait for the next message.
worker_prefetch_multiplier = 1
# Stopping. SIGTERM: take nothing new, finish what runs, end. SIGQUIT (or SIGTERM under REMAP_SIGTERM=SIGQUIT, for hosts
# that kill after a fixed time): finish within these seconds, then give the rest back and end.
worker_soft_shutdown_timeout = 5.0
# A child process is replaced after so many tasks, or when after a task it holds more memory than this (KiB): blocks may
# leak. The hard limit during a block is AGENTFLOW_CHILD_MEMORY_MB.
worker_max_tasks_per_child = 10_000
worker_max_memory_per_child = 512 * 1024
# A long task is not interrupted because the connection to the broker broke: its lease is in PostgreSQL.
worker_cancel_long_running_tasks_on_connection_loss = False
# No task has an eta or a countdown: timers are rows in PostgreSQL. What came all the same may not fill the memory.
worker_eta_task_limit = 1000

# ── Seeing ───────────────────────────────────────────────────────────────────────────────────────────────────────────
# Events for Flower cost a few per cent. A worker starts without them; Flower, where it runs, switches them on in all
# workers every few seconds. Set True for another monitor that does not.
worker_send_task_events = False
task_send_sent_event = False
# Logging is AgentFlow's (one line an event, with fields): Celery adds no handlers of its own to the root logger.
worker_hijack_root_logger = False
# print() in a block's library goes to the log, as a line of level INFO.
worker_redirect_stdouts = True
worker_redirect_stdouts_level = "INFO"
