"""openapi.json says what the API does, well enough that programs can be made from it."""

import importlib
import json
import re
import subprocess
import sys

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from serving import serve, start_serving  # noqa: F401

from agentflow.api import document as described
from agentflow.api.scopes import OPEN
from agentflow.schemas.problems import MEDIA_TYPE


@pytest.fixture
def document(app):
    return app.test_client().get("/openapi.json").json


def operations(document):
    return [operation for item in document["paths"].values() for operation in item.values()]


def references(content):
    """Every `$ref` in it."""
    if isinstance(content, dict):
        if isinstance(content.get("$ref"), str):
            yield content["$ref"]
        for value in content.values():
            yield from references(value)
    elif isinstance(content, list):
        for value in content:
            yield from references(value)


def test_it_is_valid_and_points_at_nothing_that_is_not_there(document):
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= schemas
    assert schemas <= set(references(document))  # and nothing is there that nobody uses


def test_operations_are_called_as_a_person_would_call_them(document):
    names = [operation["operationId"] for operation in operations(document)]
    assert len(set(names)) == len(names)
    assert {"list_runs", "submit_run", "cancel_run", "stream_events", "healthz"} <= set(names)
    assert all(name.isidentifier() and name.islower() and len(name) < 25 for name in names)


def test_every_error_is_a_problem_document_and_belongs_to_its_route(document):
    for path, item in document["paths"].items():
        for operation in item.values():
            errors = {status: reply for status, reply in operation["responses"].items() if status[0] in "45"}
            for status, reply in errors.items():
                if path != "/readyz":
                    assert list(reply["content"]) == [MEDIA_TYPE], (path, status)
            more = described.MORE_ERRORS.get(operation["operationId"], ())
            needs_key = bool(operation.get("security")) or operation["operationId"] in OPEN
            assert ("404" in errors) == ("{" in path or 404 in more), path
            assert ("401" in errors) == (needs_key or 401 in more), path
            assert ("422" in errors) == ("requestBody" in operation or 422 in more), path
            assert {"400", "405", "414", "431"} <= set(errors)


def test_bodies_headers_and_streams_are_described(document):
    found = {operation["operationId"]: operation for operation in operations(document)}
    for name, operation in found.items():
        if "requestBody" in operation:
            assert operation["requestBody"]["required"] == (name not in described.OPTIONAL_BODIES)
            assert operation["requestBody"]["content"]["application/json"]["example"]
    told = {*described.OPTIONAL_BODIES, *described.EXAMPLES, *described.HEADERS, *described.CONFLICTS}
    assert told <= set(found)
    headers = {
        (name, parameter["name"])
        for name, operation in found.items()
        for parameter in operation["parameters"]
        if parameter["in"] == "header"
    }
    assert headers == {
        *(
            (name, header)
            for name in ("submit_run", "submit_inline", "run_preset")
            for header in ("Idempotency-Key", "Prefer")
        ),
        ("stream_events", "Last-Event-ID"),
        ("grant_credits", "Idempotency-Key"),
        ("receive_hook", "Prefer"),
        *(("top_up_credits", f"webhook-{name}") for name in ("id", "timestamp", "signature")),
    }
    assert "Location" in found["submit_run"]["responses"]["202"]["headers"]
    assert list(found["stream_events"]["responses"]["200"]["content"]) == ["application/json", "text/event-stream"]
    assert "content" not in found["stream_events"]["responses"]["204"]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


@pytest.fixture
def generated(document, tmp_path, monkeypatch):
    """The package that openapi-python-client makes from the document."""
    source = tmp_path / "openapi.json"
    source.write_text(json.dumps(document))
    subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(source), "--meta", "none",
         "--output-path", str(tmp_path / "generated_client"), "--fail-on-warning", "--config", _config(tmp_path)],
        check=True,
        cwd=tmp_path,
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module
    for name in [name for name in sys.modules if name.split(".")[0] == "generated_client"]:
        del sys.modules[name]


def _config(folder) -> str:
    """Nothing is to be done to the code that was made."""
    path = folder / "config.yml"
    path.write_text("post_hooks: []\n")
    return str(path)


def test_a_client_that_is_made_from_it_works(generated, serve, key, echo):  # noqa: F811
    _, url = serve()
    made = generated("generated_client")
    models = generated("generated_client.models")

    def call(noun: str, operation: str):
        return generated(f"generated_client.api.{noun}.{operation}").sync_detailed

    with made.AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True) as client:
        saved = call("graphs", "create_graph")(client=client, body=models.GraphDocument.from_dict(echo)).parsed
        assert (saved.version, saved.valid) == (1, True)
        wanted = models.SubmitRun.from_dict({"inputs": {"word": "hi"}, "labels": {"order": "1"}})
        submit = call("runs", "submit_run")
        first = submit(saved.id, client=client, body=wanted, idempotency_key="k-1").parsed
        again = submit(saved.id, client=client, body=wanted, idempotency_key="k-1").parsed
        assert first.id == again.id
        run = call("runs", "get_run")(first.id, client=client).parsed
        assert run.inputs.to_dict() == {"word": "hi"}
        listed = call("runs", "list_runs")(client=client, label=["order=1"]).parsed
        assert [one.id for one in listed.items] == [run.id]
        assert call("runs", "cancel_run")(first.id, client=client).status_code == 202  # with no body
        problem = call("runs", "get_run")(saved.id, client=client).parsed
        assert isinstance(problem, models.ProblemDocument)
        assert problem.type_ == "urn:agentflow:problem:not-found"
        assert call("graphs", "list_graphs")(client=client).parsed.items[0].name == echo["name"]
        report = call("graphs", "validate_graph")(client=client, body=models.GraphDocument()).parsed
        assert report.valid is False
        assert call("health", "healthz")(client=client).parsed.status == "ok"


def texts(document, schema, place):
    """Every schema of a text that a client may choose freely, with its place."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in place:
            yield from texts(document, document["components"]["schemas"][name], (*place, name))
        return
    if schema.get("type") == "string" and not {"enum", "const", "format", "writeOnly"} & schema.keys():
        yield place, schema
    for key in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(key, ()):
            yield from texts(document, one, place)
    for key in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(key), dict):
            yield from texts(document, schema[key], (*place, key))
    for name, one in schema.get("properties", {}).items():
        yield from texts(document, one, (*place, name))


HASHED = {"password", "old", "new"}


def test_no_text_can_hold_what_postgresql_cannot_store(document):
    """NUL, which JSON may quote: a field that takes it answers 500 where it comes to a statement."""
    found = []
    for operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            found += texts(document, content["schema"], (operation["operationId"],))
    assert len(found) > 50
    open_ones = {place for place, schema in found if re.search(schema.get("pattern", ""), "a\x00")}
    assert {place for place in open_ones if place[-1] not in HASHED} == set()
