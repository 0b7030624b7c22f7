"""What a document says, whatever its copy is called."""

from copy import deepcopy
from uuid import uuid4

import pytest

from agentflow.errors import GraphInvalid
from agentflow.services import documents


def fingerprint(document) -> str:
    return documents.fingerprint(documents.read(document).graph)


def test_copies_of_a_graph_say_the_same(echo):
    copy = {**echo, "id": str(uuid4()), "version": 9, "user_id": "me", "input_schema": {"x": 1}}
    copy["nodes"] = [{**node, "graph_id": str(uuid4()), "graph_version": 2} for node in echo["nodes"]]
    assert fingerprint(copy) == fingerprint(echo)


def test_the_order_of_keys_says_nothing(echo):
    assert fingerprint(dict(reversed(echo.items()))) == fingerprint(echo)


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.update(name="other"),
        lambda graph: graph.update(settings={"on_node_failure": "stop"}),
        lambda graph: graph.update(unknown=1),
        lambda graph: graph["nodes"].reverse(),
        lambda graph: graph["nodes"][0]["input_default"].update(value=1),
        lambda graph: graph["links"].clear(),
    ],
)
def test_everything_else_does(echo, change):
    before = fingerprint(echo)
    change(echo)
    assert fingerprint(echo) != before


def test_a_known_document_need_not_be_read_again(echo):
    known = documents.Known()
    assert known.find(echo) is None
    known.keep(echo, "print")
    assert known.find(deepcopy(echo)) == "print"
    echo["nodes"][0]["input_default"]["value"] = "\ud800"
    assert known.find(echo) is None


def test_only_so_many_documents_are_known(monkeypatch):
    monkeypatch.setattr(documents, "MAX_KNOWN", 2)
    known = documents.Known()
    for number in range(3):
        known.keep({"n": number}, str(number))
        known.find({"n": 0})  # in use, so that it stays
    assert [known.find({"n": number}) for number in range(3)] == ["0", None, "2"]


def test_faults_of_shape_are_told_by_the_authors_own_ids(echo):
    echo["nodes"][1]["input_default"] = "text"
    echo["nodes"].append({"block_id": "x"})
    echo["links"].append({"id": "l9", "source_id": "in"})
    with pytest.raises(GraphInvalid) as caught:
        documents.read(echo)
    told = [(problem.node, problem.message.split(":")[0]) for problem in caught.value.problems]
    assert ("out", "input_default") in told
    assert (None, "nodes.2.id") in told
    assert (None, "link l9.sink_id") in told
