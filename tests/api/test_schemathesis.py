"""Whatever openapi.json allows, and what it does not, is sent: the document and what the API does agree."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import httpx
import pytest
from serving import serve, start_serving  # noqa: F401

from agentflow.accounts.scopes import Scope
from agentflow.api.scopes import NEEDED

SECONDS = 30
"""For each group of phases; the examples and boundary values take as long as there are some."""

CONFIGURATION = """
[generation]
max-examples = 15
allow-x00 = true

[checks.positive_data_acceptance]
# What fits the schema may still be no graph (422), or a state may forbid it (409).
expected-statuses = ["2xx", 401, 404, 409, 413, 422, 429]

[checks.negative_data_rejection]
# An address or a header that is too long to be read is refused for that.
expected-statuses = [400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 429, 431]

[[operations]]
include-operation-id = "cancel_runs"
# A filter that is empty needs `all`, which a schema could say only in a way that no generator of clients understands.
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 429]

[[operations]]
include-operation-id = ["create_key", "change_key"]
# A key cannot expire in the past, and no schema can say so.
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 404, 409, 422, 429]

[[operations]]
include-operation-id = ["change_me", "change_user", "create_schedule", "change_schedule", "backfill_schedule"]
# A time zone is one that there is, a cron expression can be read, one of two things is given: no schema can say so.
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 413, 422, 429]

[[operations]]
include-operation-id = ["create_trigger", "change_trigger", "rotate_trigger"]
# What is given must fit together: a scheme and its secret, a header or a path, an operator and its value.
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 404, 409, 413, 422, 429]

[[operations]]
include-operation-id = {pages}
# A cursor is opaque: one that no page gave is refused, and no schema can say so.
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 404, 429]

[[operations]]
include-operation-id = "test_credential"
enabled = false
# It calls the provider, which no test does.

[[operations]]
include-operation-id = ["create_channel", "test_channel"]
enabled = false
# They look host names up, and send.

[[operations]]
include-operation-id = "set_preferences"
# Quiet hours end at another time than they begin, and no schema can say so.
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 404, 429]

[[operations]]
include-operation-id = ["show_unsubscribe", "unsubscribe"]
# A link that was not given out is refused.
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 429]

[[operations]]
include-operation-id = "end_login"
# A state that no login has given is refused, and of code and error one is needed: no schema can say the first.
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 429]

[[operations]]
include-operation-id = {for_admins}
# This key is a member's.
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403]
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("phases", ["examples,coverage,fuzzing", "stateful"])
def test_the_api_keeps_to_its_document(serve, key, tmp_path, phases):  # noqa: F811
    _, url = serve(AGENTFLOW_REQUEST_RATE="100000", AGENTFLOW_MAX_BLOCK_WAITS="0")  # nobody works here
    (tmp_path / "schemathesis.toml").write_text(configuration(f"{url}/openapi.json"))
    asked = subprocess.run(
        [
            Path(sysconfig.get_path("scripts")) / "schemathesis", "--config-file", tmp_path / "schemathesis.toml",
            "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}",
            "--header", "Accept: application/json",  # no event streams: nobody works here, and they would not end
            "--checks", "all", "--phases", phases, "--max-time", str(SECONDS), "--request-timeout", "30", "--no-color",
            "--no-shrink", "--continue-on-failure", "--generation-database", "none",
            *(["--seed", "1"] if os.environ.get("CI") else []),  # as hypothesis does: new finds are for developers
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "No tests were run" not in asked.stdout


def configuration(address):
    paths = httpx.get(address, timeout=30).json()["paths"]
    operations = [operation for item in paths.values() for operation in item.values()]
    for_admins = {name for name, scope in NEEDED.items() if scope is Scope.ADMIN}
    pages = {
        operation["operationId"]
        for operation in operations
        if {"after", "Last-Event-ID"} & {parameter["name"] for parameter in operation.get("parameters", ())}
    }
    assert pages
    assert for_admins
    lists = {"pages": json.dumps(sorted(pages - for_admins)), "for_admins": json.dumps(sorted(for_admins))}
    return CONFIGURATION.format_map(lists)
