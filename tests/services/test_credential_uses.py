"""What names a credential keeps it from being deleted unawares."""

import pytest
from planted import body

URL = "/api/v1/credentials"


@pytest.mark.parametrize("number", [1, 3, 4])
def test_one_that_presets_name_is_deleted_with_force_only(api, stranger, push, number):
    used, other = (api.post(URL, json=body("openai")).json["id"] for _ in range(2))
    graph = str(push())
    for preset in range(number):
        saved = {"graph_id": graph, "name": f"number {preset}", "inputs": {"who": {"id": used.upper()}}}
        assert api.post("/api/v1/presets", json=saved).status_code == 201
    refused = api.delete(f"{URL}/{used}")
    assert refused.status_code == 409
    assert refused.json["detail"].count("the preset 'number ") == min(number, 3)
    assert ("more presets" in refused.json["detail"]) == (number > 3)
    assert api.get(f"{URL}/{used}").status_code == 200
    assert stranger.delete(f"{URL}/{used}").status_code == 404
    assert api.delete(f"{URL}/{other}").status_code == 204
    assert api.delete(f"{URL}/{used}?force=true").status_code == 204
    assert api.get(f"{URL}/{used}").status_code == 404
