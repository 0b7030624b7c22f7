"""Tells workers about ready work, by Celery messages (`publish.py`) that carry only ids, and watchers about news.

PostgreSQL holds the state. A lost message costs time, until recovery publishes it again; a duplicate is harmless.
"""

from agentflow.dispatch.publish import PublishedRun, backlog, publish, publish_examination, publish_finaliser
from agentflow.dispatch.watching import wake

__all__ = ["PublishedRun", "backlog", "publish", "publish_examination", "publish_finaliser", "wake"]
