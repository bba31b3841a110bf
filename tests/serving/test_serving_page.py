"""The page, in a browser and as text."""

import re

import chromium_pipe
import pytest
import served_models

pytest.importorskip("uvicorn", reason="needs the extra [demo]")

TOKEN = "a-token-that-nobody-guesses"
LOADED = "document.readyState === 'complete' && document.title !== ''"
READY = f"{LOADED} && model !== null"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  directory = served_models.make(tmp_path_factory.mktemp("tiny"))
  (directory / "report.md").write_text(
    "## Samples of first_task\n\n| input | prediction |\n| --- | --- |\n"
    "| question: one? | p |\n| question: two? | p |\n\n"
    "## Samples of second_task\n\n| input | prediction |\n| --- | --- |\n"
    "| <b>three</b> | p |\n"
  )
  return directory


@pytest.fixture(scope="module")
def server(directory, tmp_path_factory):
  log = tmp_path_factory.mktemp("log") / "log"
  with served_models.running(directory, log) as server:
    yield server


@pytest.fixture
def page(tmp_path):
  if chromium_pipe.found() is None:
    pytest.skip("no Chromium is installed")
  with chromium_pipe.page(tmp_path) as page:
    yield page


def test_the_page_needs_nothing_from_elsewhere(server):
  status, headers, body = server.send("GET", "/")
  assert status == 200
  assert "default-src 'none'" in headers["Content-Security-Policy"]
  text = body.decode()
  assert not re.findall(r"""(?:src|href)=["'](?!data:,)""", text)
  assert "innerHTML" not in text
  for field in re.findall(r"<(?:select|textarea|input) id=\"(\w+)\"", text):
    assert f'<label for="{field}">' in text


@pytest.mark.parametrize("width", [1280, 390])
def test_one_picks_an_application_and_sees_what_the_model_says(
  server, page, width
):
  page.open(f"http://127.0.0.1:{server.port}/", width, 800)
  page.wait_for(READY)
  assert page.run("$('text').value") == "question: one?"
  page.run(
    "$('application').value = 'second_task';"
    "$('application').dispatchEvent(new Event('change'))"
  )
  assert page.run("$('text').value") == "<b>three</b>"
  page.run("$('run').click()")
  page.wait_for("!$('alternatives').hidden && !$('run').disabled")
  body = {
    "inputs": ["<b>three</b>"],
    "num_beams": 4,
    "num_return_sequences": 4,
    "max_new_tokens": 16,
  }
  _, _, answer = server.send("POST", "/api/predict", body)
  (best,) = answer["outputs"]
  shown = page.run("[...$('rows').rows].map((r) => r.cells[0].textContent)")
  want = [best, *best["alternatives"]]
  assert shown == [
    (a["output"] or "(empty)") + ("" if a["ended"] else " \u2026") for a in want
  ]
  assert page.run("$('output').textContent") == shown[0]
  assert "%" in page.run("$('rows').rows[0].cells[1].textContent")
  # Nothing sticks out.
  assert page.run("document.documentElement.scrollWidth") == width
  assert page.errors == []
  own = f"http://127.0.0.1:{server.port}/"
  assert all(url.startswith(own) for url in page.requests)


def test_the_page_says_why_a_request_was_refused(server, page):
  page.open(f"http://127.0.0.1:{server.port}/", 1280, 800)
  page.wait_for(READY)
  page.run("$('text').value = 'x'.repeat(100); $('run').click()")
  page.wait_for("!$('error').hidden")
  assert "has 101 tokens" in page.run("$('error').textContent")


def test_the_page_asks_for_the_token(directory, tmp_path, page):
  with served_models.running(
    directory, tmp_path / "log", T2TJAX_SERVE_TOKEN=TOKEN
  ) as server:
    page.open(f"http://127.0.0.1:{server.port}/", 390, 800)
    page.wait_for(f"{LOADED} && !$('token-field').hidden")
    page.run(f"$('token').value = '{TOKEN}'; $('run').click()")
    page.wait_for("model !== null && !$('alternatives').hidden")
    assert page.run("$('error').hidden")
