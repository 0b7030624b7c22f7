"""The keys of an installation: from its setting, or from the stack that runs in its folder."""

import base64
import json
import stat

import pytest
from pydantic import SecretStr

from agentflow.embedded.keys import SECRETS_FILE, Secrets
from agentflow.embedded.launch import Launch, Wanted
from agentflow.errors import EngineError
from agentflow.settings import STACK_FILE, Settings, settings

KEY = base64.b64encode(b"k" * 32).decode()
ANOTHER = base64.urlsafe_b64encode(b"\xfb" * 32).decode()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTFLOW_DATA_DIR", str(tmp_path))
    return tmp_path


def test_a_data_directory_makes_its_key_once_for_its_owner_only(tmp_path):
    made = Secrets(tmp_path).key("credentials")
    assert Secrets(tmp_path).key("credentials") == made != Secrets(tmp_path).key("others")
    assert len(base64.b64decode(made)) == 32
    assert stat.S_IMODE((tmp_path / SECRETS_FILE).stat().st_mode) == 0o600


def test_the_setting_counts_newest_first_in_either_alphabet(folder, monkeypatch):
    monkeypatch.setenv("AGENTFLOW_CREDENTIAL_KEYS", f" {ANOTHER} , {KEY},")
    assert Settings().credential_key_ring() == (b"\xfb" * 32, b"k" * 32)
    assert KEY not in repr(Settings()) + str(Settings().model_dump())


def test_the_local_stacks_key_is_for_the_local_stack_alone(folder, monkeypatch):
    assert Settings().credential_key_ring() == ()
    (folder / STACK_FILE).write_text(json.dumps({"credential_keys": f"{KEY},{ANOTHER}"}))
    assert Settings().credential_key_ring() == (b"k" * 32, b"\xfb" * 32)
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", "postgresql://elsewhere/x")
    assert Settings().credential_key_ring() == ()


@pytest.mark.parametrize("value", ["short", base64.b64encode(b"k" * 31).decode(), f"{KEY},oops", "ä" * 44])
def test_a_wrong_key_is_told_and_not_shown(folder, monkeypatch, value):
    monkeypatch.setenv("AGENTFLOW_CREDENTIAL_KEYS", value)
    settings.cache_clear()
    with pytest.raises(EngineError) as caught:
        settings()
    settings.cache_clear()
    assert "AGENTFLOW_CREDENTIAL_KEYS" in caught.value.message
    assert "32 bytes" in caught.value.message
    assert value not in caught.value.message


def test_a_stack_gives_its_processes_the_owners_keys_before_its_own(tmp_path):
    launch = Launch(Wanted(tmp_path, credential_keys=[SecretStr(ANOTHER).get_secret_value()]))
    given = launch._credential_keys().split(",")
    assert given == [ANOTHER, Secrets(tmp_path).key("credentials")]
