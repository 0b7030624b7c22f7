"""AI blocks whose answers must have a form: what the model is told, and what is made of what it says."""

import json
from collections import Counter
from typing import Any

import pytest
from asking_models import models, outputs
from model_server import ModelServer, Reply

from agentflow.errors import BadInput

__all__ = ["models"]

FORMAT = {"name": "what it is called", "year": "when it was made"}


def structured(server: ModelServer, **inputs: Any) -> Any:
    """The block's response."""
    given = {"prompt": "What is it?", "expected_format": FORMAT, **inputs}
    [(pin, response), (other, _)] = outputs("AIStructuredResponseGenerator", server, given)
    assert (pin, other) == ("response", "prompt")
    return response


@pytest.mark.parametrize(
    "said",
    [
        '{"name": "A", "year": 1}',
        'Here you are:\n```json\n{"name": "A", "year": 1}\n```\nAnything else?',
        '```\n[{"name": "A", "year": 1}]\n```',
        'In [short]: {"name": "A", "year": 1}'.replace("[short]", "short"),
        'The answer {"name": "A", "year": 1} fits.',
    ],
)
def test_an_object_is_found_in_what_the_model_says(models: ModelServer, said: str) -> None:
    models.replies.append(Reply(said))
    assert structured(models) == {"name": "A", "year": 1}


@pytest.mark.parametrize(
    ("said", "response"),
    [
        ('[{"name": "A", "year": 1}, {"name": "B", "year": 2, "more": 3}]',
         [{"name": "A", "year": 1}, {"name": "B", "year": 2, "more": 3}]),
        ('{"list": [{"name": "A", "year": 1}]}', [{"name": "A", "year": 1}]),
        ('{"name": "A", "year": 1}', [{"name": "A", "year": 1}]),
        ("[]", []),
    ],
)  # fmt: skip
def test_a_list_of_objects_is_found(models: ModelServer, said: str, response: Any) -> None:
    models.replies.append(Reply(said))
    assert structured(models, list_result=True) == response


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("I cannot say.", "it has no JSON in it"),
        ('{"name": "A", "year": }', "its JSON is not valid"),
        ('{"name": "A"}', "it lacks the keys year"),
        ("[1, 2]", "it is not an object"),
        ("[" * 100_000, "its JSON is nested too deep"),
    ],
)
def test_the_model_is_told_what_was_wrong(models: ModelServer, said: str, told: str) -> None:
    models.replies.extend([Reply(said), Reply('{"name": "A", "year": 1}')])
    assert structured(models) == {"name": "A", "year": 1}
    sent = models.asked[1].body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
    assert told in sent[-1]["content"]
    assert sent[-2]["content"] == said


def test_after_so_many_attempts_it_gives_up(models: ModelServer) -> None:
    models.replies.extend([Reply("No."), Reply('{"name": 1', finish="length")])
    counts: Counter[str] = Counter()
    with pytest.raises(BadInput, match=r"in 2 attempts: its JSON is not valid.*too long"):
        outputs(
            "AIStructuredResponseGenerator",
            models,
            {"prompt": "What?", "expected_format": FORMAT, "retry": 2},
            counts=counts,
        )
    assert (counts["llm_calls"], counts["llm_retries"]) == (2, 1)


def test_without_a_form_any_text_will_do(models: ModelServer) -> None:
    models.replies.append(Reply("Just text."))
    assert structured(models, expected_format={}) == {"response": "Just text."}


def test_the_form_the_history_and_the_prompt_are_sent_in_order(models: ModelServer) -> None:
    models.replies.append(Reply('{"name": "A", "year": 1}'))
    history = [{"role": "user", "content": "Before {{who}}"}, {"role": "assistant", "content": "Yes?"}]
    structured(
        models,
        conversation_history=history,
        sys_prompt="You are {{who}}.",
        prompt="Well, {{who}}?",
        prompt_values={"who": "Ada"},
        force_json_output=True,
    )
    [asked] = models.asked
    system, *others = asked.body["messages"]
    assert system["content"].startswith("You are Ada.")
    assert '"name": what it is called' in system["content"]
    assert others == [*history, {"role": "user", "content": "Well, Ada?"}]
    assert asked.body["response_format"] == {"type": "json_object"}


def too_long(server: ModelServer, limit: int) -> None:
    """The server's models read `limit` characters, and say so as OpenAI's do."""
    message = f"This model's maximum context length is {limit} tokens."
    refusal = json.dumps({"error": {"message": message, "code": "context_length_exceeded"}}).encode()

    def choose(body: dict[str, Any]) -> Reply:
        size = sum(len(message["content"]) for message in body["messages"])
        return Reply(status=400, raw=refusal) if size > limit else Reply("Read.")

    server.choose = choose


def test_a_prompt_that_is_too_long_is_shortened_where_wanted(models: ModelServer) -> None:
    too_long(models, 3000)
    prompt = "first " + "word " * 5000 + "last"
    assert structured(models, expected_format={}, prompt=prompt) == {"response": "Read."}
    sent = models.asked[-1].body["messages"][-1]["content"]
    assert sent.startswith("first")
    assert sent.endswith("last")
    assert "[…]" in sent
    with pytest.raises(BadInput, match="cannot read so much"):
        structured(models, expected_format={}, prompt=prompt, compress_prompt_to_fit=False)


def test_a_prompt_that_no_shortening_makes_fit_fails(models: ModelServer) -> None:
    too_long(models, 10)
    with pytest.raises(BadInput, match="cannot read so much"):
        structured(models, expected_format={}, prompt="word " * 1000)


def test_a_list_is_given_out_whole_and_by_the_piece(models: ModelServer) -> None:
    models.replies.append(Reply('["Mercury", "Venus", 3]'))
    [whole, prompt, *pieces] = outputs("AIListGenerator", models, {"focus": "planets", "source_data": "Some text."})
    assert whole == ("generated_list", ["Mercury", "Venus", "3"])
    assert pieces == [("list_item", "Mercury"), ("list_item", "Venus"), ("list_item", "3")]
    asked = models.asked[0].body["messages"]
    assert prompt == ("prompt", asked)
    assert "planets" in asked[-1]["content"]
    assert "Some text." in asked[-1]["content"]


def test_a_list_may_come_wrapped_where_json_is_forced(models: ModelServer) -> None:
    models.replies.append(Reply('{"list": ["a"]}'))
    yielded = outputs("AIListGenerator", models, {"focus": "letters", "force_json_output": True})
    assert yielded[0] == ("generated_list", ["a"])
    assert models.asked[0].body["response_format"] == {"type": "json_object"}


def test_a_list_of_something_else_is_asked_for_again(models: ModelServer) -> None:
    models.replies.extend([Reply('[{"a": 1}]'), Reply('{"a": 1}'), Reply("[]")])
    assert outputs("AIListGenerator", models, {"focus": "letters"})[0] == ("generated_list", [])
    told = [asked.body["messages"][-1]["content"] for asked in models.asked[1:]]
    assert "its items are not all texts" in told[0]
    assert "it is not a list" in told[1]
