"""The page of an evaluation, as text and in a browser."""

import html.parser
import json

import chromium_pipe
import pytest

from t2tjax import evaluation
from t2tjax.evaluation import page as page_lib
from t2tjax.evaluation import results

ATTACK = "</script><script>document.title='owned'</script><!--<script>&amp;"
LINES = "one\u2028two\u2029three"


def add(directory, step, metrics, samples, conditions="same", **fields):
  """Leaves what `evaluate` leaves of one checkpoint, by task."""
  path = directory / "results.json"
  steps = json.loads(path.read_text())["steps"] if path.exists() else {}
  steps[str(step)] = {
    "checkpoint": f"run/checkpoint_{step}",
    "identity": str(step),
    "conditions": {"dataset": conditions},
    "tasks": {
      task: {"metrics": values, **fields} for task, values in metrics.items()
    },
  }
  path.write_text(json.dumps({"steps": steps}))
  for task, rows in samples.items():
    results.write_predictions(
      directory / "predictions" / str(step) / f"{task}.jsonl", rows
    )


def sample(number, *, correct=True, score=None):
  said = f"answer {number}" if correct else f"mistake {number}"
  return evaluation.Sample(
    f"question {number}", said, f"answer {number}", None, correct, score
  )


class Structure(html.parser.HTMLParser):
  """Collects the elements, and the text of each script."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.scripts = [], []
    self._in_script = False
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag == "script":
      self.scripts.append("")
      self._in_script = True

  def handle_endtag(self, tag):
    self._in_script = self._in_script and tag != "script"

  def handle_data(self, data):
    if self._in_script:
      self.scripts[-1] += data


def written(directory, **arguments):
  return page_lib.write_page(directory, **arguments).read_text("utf-8")


def test_the_page_is_one_file_whose_fields_have_labels(tmp_path):
  add(tmp_path, 1, {"qa": {"f1": 0.5}}, {"qa": [sample(1)]})
  structure = Structure(written(tmp_path))
  for tag, attributes in structure.elements:
    for name in ("src", "href", "action"):
      assert attributes.get(name, "data:,") == "data:,", (tag, attributes)
    assert not any(name.startswith("on") for name in attributes)
  ids = [a["id"] for _, a in structure.elements if "id" in a]
  assert len(ids) == len(set(ids))
  labels = {a["for"] for t, a in structure.elements if t == "label"}
  fields = {a["id"] for t, a in structure.elements if t in ("select", "input")}
  assert labels == fields == {"task", "step", "verdict", "sort", "text"}
  assert "innerHTML" not in structure.scripts[1]
  policy = [a["content"] for t, a in structure.elements if "http-equiv" in a]
  assert policy[0].startswith("default-src 'none'")
  assert [path.name for path in tmp_path.glob(".*")] == []


def test_no_text_ends_the_element_that_holds_it(tmp_path):
  rows = [evaluation.Sample(ATTACK, LINES, "{{data}} & <b>")]
  add(tmp_path, 1, {"qa": {"f1": 0.5}}, {"qa": rows})
  page = written(tmp_path)
  assert "\u2028" not in page and "\u2029" not in page
  structure = Structure(page)
  assert len(structure.scripts) == 2
  data = json.loads(structure.scripts[0])
  assert data["texts"] == [ATTACK, "{{data}} & <b>", LINES]


def test_the_page_holds_all_checkpoints_and_each_text_once(tmp_path):
  rows = [sample(n, correct=n % 3 > 0, score=n / 10) for n in range(10)]
  several = evaluation.Sample("question 3", "b", "a", ("a", "b"), True, 1.0)
  add(tmp_path, 2, {"qa": {"f1": 0.25}}, {"qa": rows})
  floor = {"name": "copy", "metrics": {"f1": 0.1}}
  add(
    tmp_path,
    10,
    {"qa": {"f1": float("nan")}},
    {"qa": [*rows, several]},
    conditions="other",
    baseline=floor,
    intervals_95={"f1": [float("nan"), 0.5]},
  )
  data = json.loads(Structure(written(tmp_path)).scripts[0])
  assert [c["step"] for c in data["checkpoints"]] == ["2", "10"]
  assert not data["same_conditions"]
  newest = data["checkpoints"][1]["tasks"]["qa"]
  assert newest["metrics"] == {"f1": None}
  assert newest["intervals_95"] == {"f1": [None, 0.5]}
  assert newest["baseline"] == floor
  texts = data["texts"]
  assert len(texts) == len(set(texts))
  for step, expected in (("2", rows), ("10", [*rows, several])):
    found = [
      evaluation.Sample(
        texts[inputs],
        texts[prediction],
        texts[targets[0]],
        tuple(texts[t] for t in targets) if len(targets) > 1 else None,
        correct,
        score,
      )
      for inputs, targets, prediction, correct, score in data["examples"][step][
        "qa"
      ]
    ]
    assert found == expected


def test_texts_of_private_tasks_stay_out_even_if_they_lie_there(tmp_path):
  secret = [evaluation.Sample("Ann Lee", "Ann [NAME]", "[NAME]")]
  metrics = {"mine": {"span_f1": 0.5}, "qa": {"f1": 0.5}}
  add(tmp_path, 1, metrics, {"mine": secret, "qa": [sample(1)]})
  page = written(tmp_path, private=["mine"])
  assert "Ann" not in page and "question 1" in page
  data = json.loads(Structure(page).scripts[0])
  assert data["private"] == ["mine"]
  assert data["checkpoints"][0]["tasks"]["mine"]["metrics"] == {"span_f1": 0.5}


def test_the_newest_checkpoints_predictions_are_kept_where_not_all_fit(
  tmp_path,
):
  for step in (1, 2, 3):
    rows = [sample(n) for n in range(4)]
    add(tmp_path, step, {"qa": {"f1": 0.5}}, {"qa": rows})
  data = page_lib.page_data(tmp_path, max_examples=6)
  counts = {step: len(by["qa"]) for step, by in data["examples"].items()}
  assert counts == {"3": 4, "2": 2, "1": 0}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  if chromium_pipe.found() is None:
    pytest.skip("no Chromium is installed")
  directory = tmp_path_factory.mktemp("page")
  rows = [
    sample(n, correct=n % 4 > 0, score=(n * 7 % 250) / 250) for n in range(250)
  ]
  rows[7] = evaluation.Sample(ATTACK, ATTACK, "a", ("a", "b"), False, 0.0)
  private = {"mine": {"span_f1": 0.5, "span_f1/NAME": 0.25}}
  add(
    directory,
    5,
    {"qa": {"f1": 0.25}, **private},
    {"qa": [sample(n, correct=n % 4 != 1, score=1.0) for n in range(120)]},
    num_examples=120,
  )
  add(
    directory,
    9,
    {"qa": {"f1": 0.5}, **private},
    {"qa": rows},
    intervals_95={"f1": [0.375, 0.625]},
    baseline={"name": "copy", "metrics": {"f1": 0.125}},
    num_examples=250,
  )
  path = page_lib.write_page(directory, private=["mine"])
  with chromium_pipe.page(tmp_path_factory.mktemp("browser")) as page:
    page.path = path
    yield page


def opened(page, width=1200):
  page.open(page.path.as_uri(), width, 800)
  page.wait_for(
    "document.readyState === 'complete' && "
    "typeof rows !== 'undefined' && rows.length === 250"
  )


def choose(page, field, value):
  event = "input" if field == "text" else "change"
  page.run(
    f"$('{field}').value = {json.dumps(value)};"
    f"$('{field}').dispatchEvent(new Event('{event}'))"
  )


def column(page, name):
  return page.run(
    f"[...document.querySelectorAll('#rows tr')].map(r => "
    f"r.querySelector('{name}').textContent)"
  )


@pytest.mark.parametrize("width", [1200, 380])
def test_examples_are_filtered_sorted_and_paged_in_a_browser(page, width):
  opened(page, width)
  assert column(page, ".order") == [str(n) for n in range(1, 101)]
  page.run("$('next').click(); $('next').click(); $('next').click()")
  assert column(page, ".order") == [str(n) for n in range(201, 251)]
  assert page.run("$('page').textContent") == "page 3 of 3"

  choose(page, "verdict", "wrong")
  assert column(page, ".outcome") == ["wrong"] * 64
  assert page.run("$('count').textContent").startswith("64 of 250 examples")
  choose(page, "sort", "high")
  scores = [float(score) for score in column(page, ".score")]
  assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]
  choose(page, "text", "MISTAKE 24")
  assert sorted(column(page, "[data-label=prediction]")) == [
    "mistake 24",
    "mistake 240",
    "mistake 244",
    "mistake 248",
  ]
  assert page.run("document.querySelector('mark').textContent") == "mistake 24"

  choose(page, "text", "<script>")
  assert column(page, "[data-label=prediction]") == [ATTACK]
  assert column(page, "[data-label=target]") == ["ab"]
  choose(page, "text", "")
  choose(page, "sort", "order")
  # Since checkpoint 5, which saw the first 120 examples.
  choose(page, "verdict", "gained")
  assert column(page, ".order") == [str(n + 1) for n in range(1, 120, 4)]
  choose(page, "verdict", "lost")
  assert column(page, ".order") == [str(n + 1) for n in range(0, 120, 4)]
  choose(page, "step", "5")
  choose(page, "verdict", "all")
  assert page.run("$('count').textContent").startswith("120 of 120 examples")

  choose(page, "task", "mine")
  assert page.run("$('shown').hidden && !$('withheld').hidden")
  assert "withheld" in page.run("$('withheld').textContent")
  assert page.run("document.title") == "t2tjax evaluation"
  wide = "document.documentElement.scrollWidth"
  assert page.run(wide) <= width
  assert page.errors == []
  assert {url.split(":")[0] for url in page.requests} <= {"file", "data"}


def test_checkpoints_stand_side_by_side_with_intervals_and_floor(page):
  opened(page)
  table = page.run(
    "[...document.querySelectorAll('[data-task=qa] tr')].map(r => "
    "[...r.cells].map(c => c.innerText.replace(/\\s+/g, ' ').trim()))"
  )
  assert table == [
    ["metric", "floor (copy)", "step 5", "step 9"],
    ["f1", "0.125", "0.250", "0.500 0.375 to 0.625"],
  ]
  hidden = "document.querySelector('[data-task=mine] .part').hidden"
  assert page.run(hidden)
  page.run("document.querySelector('.more').click()")
  assert not page.run(hidden)
