"""Texts of messages: nothing that a user writes breaks out, and an operator may replace each of them."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agentflow.notifications import by_email, rendering
from agentflow.notifications.kinds import Kind
from agentflow.notifications.message import Message
from agentflow.settings import settings

FOLDER = Path(rendering.__file__).parent / "templates"
NAMES = (
    "graph_name",
    "reason",
    "error",
    "name",
    "title",
    "provider",
    "block",
    "what",
    "detail",
    "channel",
    "run",
    "review",
)
EVIL = st.text(max_size=40) | st.sampled_from([
    "x\r\nBcc: eve@example.com", "</title><script>alert(1)</script>", "{{ 7 * 7 }}", "{% include 'x' %}",
    "\u2028x", "\x85x", "=?utf-8?q?=0ABcc:_eve@example.com?=", "\x00", '"><img src=x>',
])  # fmt: skip


@pytest.fixture(autouse=True)
def _settings(environment):
    """None of the operator's."""


def test_every_type_has_its_files_and_no_other_folder_is_there():
    found = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert found == {"layout.txt", "layout.html"} | {
        f"{kind}/{file}" for kind in rendering.TYPES for file in rendering.FILES
    }


@pytest.mark.parametrize("kind", rendering.TYPES)
def test_every_type_can_be_told_without_any_data(kind):
    made = rendering.render(kind, {"items": [], "kinds": []})
    assert made.text.strip()
    assert "<h2" in made.html


@examples(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(Kind)), st.fixed_dictionaries(dict.fromkeys(NAMES, EVIL)))
def test_what_users_write_starts_no_line_tag_or_header(kind, data):
    made = rendering.render(kind, data)
    assert made.subject == " ".join(made.subject.split())
    assert len(made.subject) <= rendering.MOST_SUBJECT
    assert len(made.text.splitlines()) <= 20
    assert "49" not in made.subject
    assert "<script" not in made.html
    assert "<img" not in made.html
    mail = by_email.compose(
        "a@b.example", "c@d.example", Message("id", kind, "now", made.subject, made.text, made.html)
    )
    written = bytes(mail)
    assert mail["bcc"] is None
    assert b"\nBcc:" not in written.partition(b"\r\n\r\n")[0]


def test_an_operator_replaces_a_text_and_one_that_fails_is_ours(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("AGENTFLOW_NOTIFICATION_TEMPLATES", str(tmp_path))
    settings.cache_clear()
    (tmp_path / "run_failed").mkdir()
    (tmp_path / "run_failed" / "subject.txt").write_text("Oh no: {{ graph_name }}")
    made = rendering.render(Kind.RUN_FAILED, {"graph_name": "g", "run": "r"})
    assert (made.subject, "A run of g has failed" in made.text) == ("Oh no: g", True)
    (tmp_path / "run_failed" / "body.txt").write_text("{{ ''.__class__.__mro__ }}")
    (tmp_path / "run_failed" / "body.html").write_text("{% if %}")
    rendering._environment.cache_clear()  # as in another process
    made = rendering.render(Kind.RUN_FAILED, {"graph_name": "g", "run": "r"})
    assert "A run of g has failed" in made.text
    assert len(list(rendering.faults(tmp_path))) == 2
    assert {record.msg for record in caplog.records} == {"template_failed"}
    assert list(rendering.faults(None)) == []
    assert list(rendering.faults(tmp_path / "none")) == [f"{tmp_path / 'none'} is no folder"]


def test_long_values_are_cut():
    made = rendering.render(Kind.RUN_FAILED, {"graph_name": "g" * 9_000, "error": "e" * 9_000, "run": "r"})
    assert len(made.subject) == rendering.MOST_SUBJECT
    assert len(made.text) < 6_000
