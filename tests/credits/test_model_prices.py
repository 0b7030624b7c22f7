"""The prices of models are read from a file, and a wrong file is refused at the start."""

import json
from decimal import Decimal
from importlib.metadata import version
from importlib.resources import files
from math import ceil

import pytest
from genai_prices import data
from genai_prices.types import ModelPrice as ModelPrices
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from agentflow.blocks.ai.language_models import DEFAULT_MODEL
from agentflow.credits.model_prices import ModelPrice, model_prices, price_of
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


def test_the_package_has_prices_with_their_source_for_models_that_blocks_offer():
    file = json.loads(files("agentflow.credits").joinpath("models.json").read_text())
    assert set(file["source"]) == {"from", "version", "checked", "note"}
    prices = model_prices(None)
    assert prices[DEFAULT_MODEL].input == 250
    for name, price in prices.items():
        assert price.flat == ceil((4_000 * price.input + 2_000 * price.output) / 10**6), name
        assert price.cache_read <= price.input <= price.output, name
        assert price_of(prices, f" {name}-2026-01-31 ") in (price, prices.get(f"{name}-2026-01-31")), name
    for provider in ("gpt-", "claude-", "llama-"):
        assert any(name.startswith(provider) for name in prices)
    assert price_of(prices, "claude-opus-4-20250514") == prices["claude-opus-4-0"]
    assert price_of(prices, "nobody-knows") is None


def test_the_packages_prices_are_those_of_the_source_that_it_names():
    file = json.loads(files("agentflow.credits").joinpath("models.json").read_text())
    if version("genai-prices") != file["source"]["version"]:
        pytest.skip("another version of the source is installed")
    makers = [provider for provider in data.providers if provider.id in ("openai", "anthropic", "groq")]
    known = {model.id: model.prices for provider in makers for model in provider.models}
    for name, price in model_prices(None).items():
        found = known.get(name)
        if not isinstance(found, ModelPrices) or not isinstance(found.input_mtok, Decimal):
            continue  # an alias, or one whose price depends on the date or the length of the prompt
        assert (price.input, price.output) == (found.input_mtok * 100, found.output_mtok * 100), name


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
