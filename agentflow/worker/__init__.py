"""What a Celery worker does: claims, runs and settles node executions, finalises runs, and recovers what was lost.

`app.py` is the Celery app, `tasks.py` its two tasks; `execute.py` is the path of a node execution, `attempt.py` what it
knows of one attempt, `interrupts.py` how a block is stopped; `keeper.py` runs in the worker's main process: leases,
cancellation, recovery (`recovery.py`).
"""
