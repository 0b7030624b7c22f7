"""A page in a real browser shows a run to its end."""

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fleet import graph, link, node, until
from websockets.sync.client import connect

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

STEPS = graph(
    [
        node("each", "StepThroughItems", items=list(range(5))),
        node("work", "TestSleep", seconds=0.2),
        node("out", "AgentOutput", name="n"),
    ],
    [link("each:item", "work:value"), link("work:value", "out:value")],
)


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Callable[[str], Callable[[str], Any]]]:
    """`browse(url)` opens a page in Chromium, and gives a function that evaluates JavaScript in it."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")
    with (tmp_path / "chromium.log").open("wb") as log:
        browser = subprocess.Popen(
            [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", "about:blank"], stdout=log, stderr=log
        )
    port_file = tmp_path / "profile" / "DevToolsActivePort"
    try:
        until(lambda: port_file.is_file() and port_file.read_text().strip(), "the browser listens")
        port = port_file.read_text().split()[0]
        pages = until(
            lambda: [one for one in httpx.get(f"http://127.0.0.1:{port}/json").json() if one["type"] == "page"],
            "a page",
        )
        numbers = itertools.count(1)
        with connect(pages[0]["webSocketDebuggerUrl"], proxy=None, max_size=None, compression=None) as tools:

            def call(method: str, **parameters: Any) -> dict[str, Any]:
                number = next(numbers)
                tools.send(json.dumps({"id": number, "method": method, "params": parameters}))
                while (reply := json.loads(tools.recv(30))).get("id") != number:
                    pass
                return reply["result"]

            def evaluate(script: str) -> Any:
                return call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

            def browse_to(url: str) -> Callable[[str], Any]:
                call("Page.navigate", url=url)
                return evaluate

            yield browse_to
    finally:
        browser.terminate()
        browser.wait(timeout=20)


@pytest.mark.parametrize("through", ["live", "web"])
def test_a_browser_shows_a_run_from_its_beginning_to_its_end(fleet, browse, stored, through):
    run = fleet.submit(STEPS)
    page = browse(f"{fleet.live_url if through == 'live' else fleet.url}/watch/{run}#key={fleet.key}")
    until(lambda: page("document.body?.dataset.state") in ("live", "over"), "it is connected")
    until(lambda: page("document.body.dataset.state") == "over", "it is over")
    assert page("document.getElementById('status').textContent") == "COMPLETED"
    assert page("document.getElementById('events').children.length") == len(stored(run))


def test_a_browser_goes_on_when_the_live_process_was_killed(fleet, browse, stored):
    run = fleet.submit(graph([node("wait", "WaitForEvent", name="go")], []))
    page = browse(f"{fleet.live_url}/watch/{run}#key={fleet.key}")
    until(lambda: page("document.getElementById('status')?.textContent") == "WAITING", "it waits")
    fleet.kill_live()
    fleet.start_live()
    fleet.client.signal(run, "go", 1)
    until(lambda: page("document.body.dataset.state") == "over", "it is over")
    assert page("document.getElementById('events').children.length") == len(stored(run))


def test_the_page_holds_nothing_and_may_load_nothing_from_elsewhere(fleet):
    for url in (fleet.url, fleet.live_url):
        reply = httpx.get(f"{url}/watch/{uuid4()}")
        assert reply.status_code == 200
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert httpx.get(f"{url}/watch.js").headers["content-type"].startswith("text/javascript")
