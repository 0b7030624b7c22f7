"""The prices of models are read from a file, and a wrong file is refused at the start."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from agentflow.credits.model_prices import ModelPrice, model_prices
from agentflow.errors import EngineError
from agentflow.settings import settings, signing_key


@pytest.fixture
def prices(tmp_path, monkeypatch):
    """Starts a process with such a file."""

    def start(text):
        path = tmp_path / "prices.json"
        path.write_text(text)
        monkeypatch.setenv("AGENTFLOW_MODEL_PRICES", str(path))
        settings.cache_clear()
        model_prices.cache_clear()
        return model_prices(settings().model_prices)

    yield start
    settings.cache_clear()


def test_the_package_has_prices():
    assert model_prices(None)["gpt-4o"].input == 250


def test_the_operators_file_takes_their_place(prices):
    found = prices('{"models": {"own": {"input": 1, "output": 2.5, "flat": 3}}}')
    assert found == {"own": ModelPrice(flat=3, input=1.0, output=2.5)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"models": {"m": {"input": -1, "output": 1}}}', "models.m.input"),
        ('{"models": {"m": {"input": NaN, "output": 1}}}', "models.m.input"),
        ('{"models": {"m": {"input": 1e300, "output": 1}}}', "models.m.input"),
        ('{"models": {"m": {"input": "1", "output": 1}}}', "models.m.input"),
        ('{"models": {"m": {"input": true, "output": 1}}}', "models.m.input"),
        ('{"models": {"m": {"input": 1}}}', "models.m.output"),
        ('{"models": {"m": {"input": 1, "output": 1, "flat": 1.5}}}', "models.m.flat"),
        ('{"models": {"m": {"input": 1, "output": 1, "imput": 1}}}', "models.m.imput"),
        ('{"models": {"m": {"input": 1, "output": 1}, "m": {"input": 2, "output": 1}}}', "twice"),
        ('{"m": {"input": 1, "output": 1}}', "models"),
        ("[]", "file"),
        ("not JSON", "is not JSON"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start_and_the_message_says_where(prices, text, why):
    with pytest.raises(EngineError, match="AGENTFLOW_MODEL_PRICES") as refused:
        prices(text)
    assert why in refused.value.message


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        model_prices(tmp_path / "none.json")


@given(st.dictionaries(st.text(max_size=5), st.floats(0, 10**9), max_size=5))
def test_what_is_written_is_read(tmp_path_factory, rates):
    path = tmp_path_factory.mktemp("prices") / "prices.json"
    path.write_text(json.dumps({"models": {name: {"input": rate, "output": 0.0} for name, rate in rates.items()}}))
    assert {name: price.input for name, price in model_prices(path).items()} == rates


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_what_is_no_secret_of_standard_webhooks_is_refused(secret):
    with pytest.raises(ValueError, match="whsec_"):
        signing_key(SecretStr(secret))
