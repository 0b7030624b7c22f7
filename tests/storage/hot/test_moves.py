"""Every statement that sets a status makes a move of `engine/statuses.py`, and each move there has a statement."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import agentflow
from agentflow.engine.settlement import Transition, WaitFor
from agentflow.engine.statuses import MOVES, RUN_MOVES, RUN_TERMINAL, Move, NodeStatus, RunStatus

PACKAGE = Path(agentflow.__file__).parent
SQL = PACKAGE / "storage" / "hot" / "sql"

TRANSITIONS = (
    Transition.completed(),
    Transition.failed("block", "broken"),
    Transition.retried("transient", "again", 1),
    Transition.waiting(WaitFor("timer", "", 1, {})),
    Transition.stopped(),
)

VARIABLES: Mapping[tuple[str, str], set[str]] = {
    ("settle", "p_status"): {str(made.status) for made in TRANSITIONS},
    ("finish", "p_status"): {str(status) for status in RUN_TERMINAL},
    ("fault_of_run", "v_status"): {"FAILED", "CANCELLED"},
    ("retry", "v_status"): {"QUEUED", "RUNNING"},
}
"""What a status comes from where the statement does not spell it out: (function, variable) → its values."""

FUNCTION = re.compile(r"CREATE OR REPLACE FUNCTION agentflow_(\w+)\s*\((.*?)\$\$(.*?)\$\$", re.DOTALL)
STATEMENT = re.compile(
    r"\b(UPDATE|INSERT INTO) (node_executions|runs)\b(.*?)(?=;|\bRETURNING\b|\bLOOP\b|\Z)", re.DOTALL
)
WRITE_ELSEWHERE = re.compile(r"""update\((?:NodeExecution|Run)\)(?:.|\n)*?\.values\([^)]*\bstatus=|SET status""")


def top_level(text: str) -> list[str]:
    """Splits at the commas that stand in no parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def assigned(statement: str) -> Iterator[str]:
    """The expressions that a statement gives its `status`."""
    for setting in re.findall(r"\bSET\b(.*?)(?=\bWHERE\b|\bFROM\b(?! e\.)|\Z)", statement, re.DOTALL):
        for part in top_level(setting):
            if match := re.match(r"status\s*=(.*)", part, re.DOTALL):
                yield match[1]
    if match := re.match(r"\s*(?:AS \w+\s*)?\(([^)]*)\)\s*(?:VALUES\s*\((.*)\)|SELECT (.*))", statement, re.DOTALL):
        columns, values = top_level(match[1]), top_level(match[2] or match[3])
        yield values[columns.index("status")]


def values_of(function: str, expression: str) -> set[str]:
    said = re.sub(r"\bWHEN\b.*?\bTHEN\b", " ", expression, flags=re.DOTALL)
    found = set(re.findall(r"'([A-Z]+)'", said))
    for variable in re.findall(r"\b[pv]_\w+", said):
        found |= VARIABLES[function, variable]
    return found


def written() -> dict[str, dict[str, set[str]]]:
    """Table → function → the statuses that it sets."""
    found: dict[str, dict[str, set[str]]] = {"node_executions": defaultdict(set), "runs": defaultdict(set)}
    for path in sorted(SQL.glob("*.sql")):
        text = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
        for function, _, body in FUNCTION.findall(text):
            for _, table, statement in STATEMENT.findall(body):
                for expression in assigned(statement):
                    found[table][function] |= values_of(function, expression)
    return found


def declared(moves: tuple[Move[NodeStatus], ...] | tuple[Move[RunStatus], ...]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for move in moves:
        for function in move.by:
            found[function].add(str(move.target))
    return found


def test_every_statement_that_sets_a_status_makes_a_move_of_the_table() -> None:
    found = written()
    # A flush leaves it RUNNING, and so writes that: no move.
    assert found["node_executions"].pop("settle") - {"RUNNING"} == declared(MOVES)["settle"]
    assert found["node_executions"] == {k: v for k, v in declared(MOVES).items() if k != "settle"}
    assert found["runs"] == declared(RUN_MOVES)


def test_nothing_else_sets_a_status() -> None:
    """But for the rows that a fork copies, and holds."""
    found = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if WRITE_ELSEWHERE.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_each_constructor_of_a_transition_is_a_move() -> None:
    legal = {move.target for move in MOVES if move.source == "RUNNING" and "settle" in move.by}
    assert {made.status for made in TRANSITIONS} == legal - {"CANCELLED"}, "CANCELLED is what a stop makes of any"
