"""How lists look on a terminal and elsewhere."""

import io
import os
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from agentflow.cli import tables
from agentflow.cli.tables import duration, echo_table

ID = "01939b1e-7c00-7000-8000-0123456789ab"


@given(width=st.integers(1, 200), others=st.lists(st.text("abc déf日本 ", max_size=60), min_size=1, max_size=5))
def test_an_id_is_never_cut_however_narrow_the_terminal_is(width, others):
    columns = ["ID", *(["STATUS", "CREATED", "ERROR", "GRAPH", "NAME"][: len(others)])]
    told = io.StringIO()
    with patch.object(tables, "room", lambda: width), patch("sys.stdout", told):
        echo_table(columns, [[ID, *others]], empty="")
    assert ID in told.getvalue()
    for column, text in zip(columns[1:], others, strict=True):
        if column in ("STATUS", "CREATED"):
            assert " ".join(text.split()) in told.getvalue()


def test_time_spans_are_short():
    spans = [0.04, 59.94, 60, 245, 3600, 7207, 90_000 * 3]
    assert [duration(span) for span in spans] == ["0.0 s", "59.9 s", "1:00", "4:05", "1:00:00", "2:00:07", "3 d 03:00"]


def test_lines_are_broken_between_words_on_a_terminal_and_nowhere_else():
    words = "first the tide comes late " * 6
    for is_terminal in (True, False):
        told = io.StringIO()
        told.isatty = lambda is_terminal=is_terminal: is_terminal
        with patch("sys.stderr", told), patch.dict(os.environ, {"COLUMNS": "40", "TERM": "xterm"}):
            tables.console(stderr=True).print(words)
        lines = [line for line in told.getvalue().splitlines() if line.strip()]
        assert " ".join(" ".join(lines).split()) == words.strip()
        assert (max(map(len, lines)) <= 40) is is_terminal
