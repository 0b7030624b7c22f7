"""Makes credentials with secrets that a test looks for afterwards."""

import base64
import json

from sqlalchemy import text

from agentflow.services.transaction import transaction
from agentflow.storage.tables import Table

API_KEY = {"type": "api_key", "api_key": "sk-PLANTED-api-key"}
PASSWORD = {"type": "user_password", "username": "ann", "password": "PLANTED password \"'ß"}
HEADERS = {
    "type": "host_scoped",
    "host": "*.example.com",
    "headers": {"X-Key": "PLANTED-header", "Authorization": "Bearer PLANTED-bearer"},
}
TOKENS = {
    "type": "oauth2",
    "access_token": "PLANTED-access",
    "refresh_token": "PLANTED-refresh",
    "scopes": ["read"],
    "username": "ann",
}
ALL = {"openai": API_KEY, "smtp": PASSWORD, "http": HEADERS, "google": TOKENS}


def body(provider="openai", secret=None, **more):
    return {"provider": provider, "secret": secret or ALL[provider], **more}


def forms(secret):
    """A secret in the forms in which it could stand in a row."""
    raw = secret.encode()
    return {secret, json.dumps(secret)[1:-1], base64.b64encode(raw).decode()[:-4], raw.hex()}


def found_in_database(*secrets):
    """(table, secret) for each table in which any row shows a secret."""
    found = set()
    with transaction() as session:
        for table in Table.metadata.sorted_tables:
            for row in session.execute(text(f'SELECT t::text FROM "{table.name}" t')).scalars():
                found |= {(table.name, secret) for secret in secrets for form in forms(secret) if form in row}
    return found
