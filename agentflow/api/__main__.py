"""Prints the OpenAPI document (`python -m agentflow.api`). `make check` validates it."""

import json

from agentflow.api.app import create_app
from agentflow.api.document import complete

print(json.dumps(complete(create_app().api_doc)))  # noqa: T201
