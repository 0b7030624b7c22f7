"""How do workers hear of work? By messages to Celery (`publish.py`) that carry ids only.

PostgreSQL is the truth; a message is a doorbell. Losing one costs time, and recovery rings again; two are harmless.
"""

from agentflow.dispatch.publish import PublishedRun, backlog, publish, ring_finaliser

__all__ = ["PublishedRun", "backlog", "publish", "ring_finaliser"]
