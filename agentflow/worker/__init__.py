"""Does a Celery worker's work: claims, runs and settles node executions, finalises runs, recovers what was lost.

`app.py` is the Celery app, `tasks.py` its two tasks; `execute.py` is the path of a node execution, `attempt.py` the
state of one attempt, `interrupts.py` stops blocks; `keeper.py` runs in the worker's main process: leases, cancellation,
recovery (`recovery.py`).
"""
