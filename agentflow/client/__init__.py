"""Lets Python programs use AgentFlow: `Client` calls its HTTP API.

with Client("http://127.0.0.1:8080", key) as client:
    run = client.submit_inline(document, {"who": "world"})
    for event in client.events(run.id):
        print(event.kind, event.title, event.status)
    print(client.get_run(run.id).outputs)
"""

from agentflow.client.client import Client
from agentflow.client.http import ApiError, Unreachable

__all__ = ["ApiError", "Client", "Unreachable"]
