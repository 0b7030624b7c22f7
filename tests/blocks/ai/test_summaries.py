"""Long texts become short, whatever their length."""

from collections import Counter
from itertools import pairwise

import pytest
from asking_models import models, outputs
from hypothesis import given
from hypothesis import strategies as st
from model_server import ModelServer, Reply, last_text

from agentflow.blocks.ai.summaries import spans
from agentflow.errors import BadInput, Transient

__all__ = ["models"]


def test_a_short_text_takes_one_request(models: ModelServer) -> None:
    models.replies.append(Reply("Short."))
    given = {"text": "A long story.", "focus": "the end", "style": "bullet points"}
    [summary, prompt] = outputs("AITextSummarizer", models, given)
    assert summary == ("summary", "Short.")
    [asked] = models.asked
    assert prompt == ("prompt", asked.body["messages"])
    assert "the end" in asked.body["messages"][0]["content"]
    assert "bullet points" in asked.body["messages"][0]["content"]
    assert "A long story." in last_text(asked.body)


def test_a_long_text_is_summed_up_in_pieces(models: ModelServer) -> None:
    text = " ".join(f"word{number}" for number in range(300))
    counts: Counter[str] = Counter()
    given = {"text": text, "max_tokens": 100, "chunk_overlap": 5, "model": "say:part"}
    assert outputs("AITextSummarizer", models, given, counts=counts)[0] == ("summary", "part")
    *pieces, whole = [last_text(asked.body) for asked in models.asked]
    assert counts["llm_calls"] == len(pieces) + 1
    assert all(any(f"word{number} " in f"{piece} " for piece in pieces) for number in range(300))
    assert whole.endswith("\n\n".join(["part"] * len(pieces)))


def test_summaries_that_do_not_get_shorter_end_it(models: ModelServer) -> None:
    given = {"text": "word " * 300, "max_tokens": 100, "chunk_overlap": 5, "model": "say:" + "x" * 1000}
    with pytest.raises(BadInput, match="no shorter"):
        outputs("AITextSummarizer", models, given)


def test_a_piece_that_fails_fails_the_block(models: ModelServer) -> None:
    models.replies.extend([Reply("part"), Reply("later", status=503)])
    with pytest.raises(Transient, match="503"):
        outputs("AITextSummarizer", models, {"text": "word " * 300, "max_tokens": 100, "chunk_overlap": 5})


@given(st.text(alphabet="ab \n", max_size=300), st.integers(4, 40), st.integers(0, 100))
def test_pieces_cover_the_text_and_overlap_a_little(text: str, size: int, overlap: int) -> None:
    found = spans(text, size, overlap)
    assert all(0 < end - start <= size for start, end in found) or found == [(0, 0)]
    assert (found[0][0], found[-1][1]) == (0, len(text))
    for (_, end), (start, _) in pairwise(found):
        assert end - start == min(overlap, size // 4)
    assert len(found) <= 1 + 4 * len(text) / size


def test_a_text_without_white_space_is_cut_all_the_same() -> None:
    assert spans("x" * 10, 4, 1) == [(0, 4), (3, 7), (6, 10)]
