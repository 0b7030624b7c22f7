"""The application as a WSGI server loads it: `gunicorn -c python:agentflow.api.gunicorn agentflow.api.wsgi:app`."""

from agentflow.api.app import create_app

app = create_app()
