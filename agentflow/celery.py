"""Lets `celery -A agentflow …` find the Celery app."""

from agentflow.worker.app import app

__all__ = ["app"]
