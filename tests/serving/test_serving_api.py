"""The API in this process: answers, and a clear reason for every refusal."""

import concurrent.futures
import json
import math
import threading

import numpy as np
import pytest
import served_models

pytest.importorskip("starlette", reason="needs the extra [demo]")
pytest.importorskip("httpx2", reason="TestClient needs it")

from starlette import testclient  # noqa: E402

import t2tjax  # noqa: E402
from t2tjax import evaluation, serving  # noqa: E402
from t2tjax.serving import app as app_lib  # noqa: E402
from t2tjax.trainer import report  # noqa: E402

LIMITS = serving.Limits(
  max_batch=8,
  max_input_tokens=64,
  max_new_tokens=32,
  max_waiting=256,
  max_body_bytes=4000,
)
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return t2tjax.load(served_models.make(tmp_path_factory.mktemp("model")))


def client_of(engine, limits=LIMITS, **settings):
  app = app_lib.make_app(engine, limits, name="tiny", **settings)
  return testclient.TestClient(app, base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def client(model):
  with client_of(serving.Engine(model, LIMITS)) as client:
    yield client


class Slow:
  """An engine that waits until it may go on."""

  def __init__(self, engine):
    self._engine = engine
    self.open, self.entered = threading.Event(), threading.Event()

  def __getattr__(self, name):
    return getattr(self._engine, name)

  def run(self, key, items):
    self.entered.set()
    assert self.open.wait(30)
    return self._engine.run(key, items)


def test_predictions_are_those_of_the_loaded_model(client, model):
  texts = ["ab", "a longer text", "", "\u00e9\u4e2d"]
  for beams in (1, 4):
    body = {"inputs": texts, "max_new_tokens": 16, "num_beams": beams}
    response = client.post("/api/predict", json=body)
    assert response.status_code == 200
    settings = {} if beams == 1 else {"num_beams": beams}
    want = model.predict(texts, max_new_tokens=16, **settings)
    assert [out["output"] for out in response.json()["outputs"]] == want


def test_probabilities_are_those_of_the_tokens(client, model):
  response = client.post(
    "/api/predict",
    json={
      "inputs": ["ab"],
      "max_new_tokens": 16,
      "num_beams": 4,
      "num_return_sequences": 3,
    },
  )
  (best,) = response.json()["outputs"]
  tokens = model.generate(
    [[100, 101, 1]], max_new_tokens=16, num_beams=4, num_return_sequences=3
  )
  answers = [best, *best["alternatives"]]
  assert len(answers) == 3
  for answer, row in zip(answers, tokens[0], strict=True):
    row = row[: answer["num_tokens"]]
    assert answer["ended"] == (row[-1] == 1)
    want = -model.loss([[100, 101, 1]], [row]) * len(row)
    assert math.isclose(answer["log_probability"], want, rel_tol=1e-4)
    assert math.isclose(answer["probability"], math.exp(want), rel_tol=1e-3)


def test_scores_are_those_of_the_loaded_model(client, model):
  inputs, targets = ["ab", "c", "def"], ["x", "yz", ""]
  response = client.post(
    "/api/score", json={"inputs": inputs, "targets": targets}
  )
  want = model.score(inputs, targets)
  np.testing.assert_allclose(response.json()["scores"], want, rtol=1e-5)


def test_many_at_once_get_their_own_answers(client, model):
  texts = [f"text {i} " + "x" * (i % 40) for i in range(96)]
  want = model.predict(texts, max_new_tokens=16)

  def ask(text):
    body = {"inputs": [text], "max_new_tokens": 16}
    return client.post("/api/predict", json=body).json()["outputs"][0]["output"]

  with concurrent.futures.ThreadPoolExecutor(96) as pool:
    assert list(pool.map(ask, texts)) == want
  assert len(set(want)) > 10


def test_it_says_what_the_model_is(client, model):
  facts = client.get("/api/model").json()
  assert facts["name"] == "tiny" and facts["step"] == model.step
  assert facts["sizes"]["emb_dim"] == 16
  assert facts["limits"]["max_new_tokens"] == [16, 32]
  assert facts["applications"] == []


@pytest.mark.parametrize(
  "body, status, reason",
  [
    (b"", 400, "not valid JSON"),
    (b'{"inputs": ["a"]', 400, "not valid JSON"),
    (b'{"inputs": ["\xff"]}', 400, "not valid JSON"),
    (b'{"inputs": NaN}', 400, "not valid JSON"),
    (b'{"inputs": ' + b"9" * 5000 + b"}", 413, "4,000 bytes"),
    (b"[" * 3900, 400, "not valid JSON"),
    (b'["a"]', 422, "must be an object"),
    ({}, 422, "inputs must be a list of texts"),
    ({"inputs": "a"}, 422, "inputs must be a list of texts"),
    ({"inputs": ["a", 3]}, 422, "inputs must be a list of texts"),
    ({"inputs": []}, 422, "1 to 8 texts, not 0"),
    ({"inputs": ["a"] * 9}, 422, "1 to 8 texts, not 9"),
    ({"inputs": ["a", "b" * 64]}, 422, r"inputs[1] has 65 tokens"),
    ({"inputs": ["\ud800"]}, 422, "surrogate"),
    ({"inputs": ["a"], "num_beam": 4}, 422, "'num_beam'; known are inputs"),
    ({"inputs": ["a"], "num_beams": 3}, 422, "one of 1, 2, 4, 8"),
    ({"inputs": ["a"], "num_beams": True}, 422, "num_beams must be one of"),
    ({"inputs": ["a"], "num_beams": 2.0}, 422, "num_beams must be one of"),
    ({"inputs": ["a"], "max_new_tokens": 17}, 422, "one of 16, 32"),
    ({"inputs": ["a"], "max_new_tokens": None}, 422, "one of 16, 32"),
    ({"inputs": ["a"], "num_return_sequences": 2}, 422, "needs num_beams"),
    ({"inputs": ["a"], "num_return_sequences": -1}, 422, "must be one of"),
  ],
)
def test_what_is_wrong_is_named(client, body, status, reason):
  if not isinstance(body, bytes):
    body = json.dumps(body).encode()
  headers = {"Content-Type": "application/json"}
  response = client.post("/api/predict", content=body, headers=headers)
  assert response.status_code == status, response.text
  assert reason in response.json()["error"]


def test_scores_need_as_many_targets_as_inputs(client):
  body = {"inputs": ["a"], "targets": ["b", "c"]}
  response = client.post("/api/score", json=body)
  assert response.status_code == 422
  assert "1 inputs, but 2 targets" in response.json()["error"]


def test_other_methods_paths_and_types_are_refused(client):
  assert client.get("/api/predict").status_code == 405
  assert client.get("/api/nothing").status_code == 404
  response = client.post("/api/predict", content=b'{"inputs": ["a"]}')
  assert response.status_code == 415
  response = client.get("/api/model", headers={"Host": "evil.example"})
  assert response.status_code == 421


def test_a_body_without_a_length_is_cut_off(client):
  chunks = (b'{"inputs": ["' if i == 0 else b"a" * 999 for i in range(50))
  headers = {"Content-Type": "application/json"}
  response = client.post("/api/predict", content=chunks, headers=headers)
  assert response.status_code == 413


def test_without_the_right_token_the_api_is_closed(model):
  engine = serving.Engine(model, LIMITS)
  with client_of(engine, token=TOKEN) as client:
    for headers in (
      {},
      {"Authorization": "Bearer"},
      {"Authorization": f"Bearer {TOKEN}x"},
      {"Authorization": f"Bearer {TOKEN[:-1]}"},
      {"Authorization": f"Basic {TOKEN}"},
      {"Authorization": b"Bearer \xff\xfe"},
    ):
      for path in ("/api/model", "/api/predict", "/api/nothing"):
        response = client.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/").status_code == 200
    right = {"Authorization": f"Bearer {TOKEN}", "Host": "elsewhere.example"}
    assert client.get("/api/model", headers=right).status_code == 200


def test_a_full_queue_says_when_to_come_again(model):
  limits = serving.Limits(max_batch=8, max_input_tokens=64, max_waiting=8)
  slow = Slow(serving.Engine(model, limits))
  body = {"inputs": ["a"] * 8, "max_new_tokens": 16}
  with (
    client_of(slow, limits) as client,
    concurrent.futures.ThreadPoolExecutor(21) as pool,
  ):

    def ask():
      return client.post("/api/predict", json=body)

    running = pool.submit(ask)
    assert slow.entered.wait(30)
    # One of these may wait.
    others = [pool.submit(ask) for _ in range(20)]
    finished = concurrent.futures.as_completed(others, timeout=30)
    for response in (next(finished).result() for _ in range(19)):
      assert response.status_code == 503
      assert response.headers["Retry-After"] == "1"
      assert "8 inputs wait already" in response.json()["error"]
    slow.open.set()
    assert running.result().status_code == 200
    assert next(finished).result().status_code == 200


def test_what_takes_too_long_is_given_up(model):
  limits = serving.Limits(max_batch=8, max_input_tokens=64, time_limit=0.3)
  slow = Slow(serving.Engine(model, limits))
  with client_of(slow, limits) as client:
    response = client.post("/api/predict", json={"inputs": ["a"]})
    assert response.status_code == 504
    assert "within 0.3 seconds" in response.json()["error"]
    slow.open.set()


def test_an_error_of_the_model_shows_no_text(model, caplog):
  engine = serving.Engine(model, LIMITS)
  secret = "a secret text"

  def fail(key, items):
    raise RuntimeError(secret)

  engine.run = fail
  caplog.set_level("INFO")
  with client_of(engine) as client:
    response = client.post("/api/predict", json={"inputs": [secret]})
  assert response.status_code == 500
  assert "RuntimeError" in caplog.text and "in fail" in caplog.text
  assert secret not in caplog.text and secret not in response.text
  assert "POST /api/predict 500" in caplog.text


def test_a_model_without_a_vocabulary_is_refused(tmp_path):
  served_models.make(tmp_path)
  (tmp_path / "tokenizer_config.json").unlink()
  with pytest.raises(ValueError, match="--vocabulary=FILE"):
    serving.Engine(t2tjax.load(tmp_path), LIMITS)


def test_applications_are_the_tasks_of_the_report(tmp_path):
  samples = [
    evaluation.Sample("question: a | b?", "p", "t"),
    evaluation.Sample("second", "p | q", "t").withheld(),
    evaluation.Sample("third\nline", "p", "t"),
  ]
  results = [
    evaluation.EvalResult("one", {"f1": 0.5}, samples, 3),
    evaluation.EvalResult("two", {"f1": 0.5}, samples[1:2], 1),
  ]
  (tmp_path / "config.gin").write_text("MIXTURE_OR_TASK_NAME = 'both'  # a\n")
  checkpoint = tmp_path / "checkpoint_5"
  assert serving.applications(checkpoint) == [serving.Application("both")]
  report.write_report(
    tmp_path, title="Run", facts={"a": "b"}, results=results, floors={}
  )
  assert serving.applications(tmp_path) == [
    serving.Application("one", ["question: a | b?", "third line"]),
    serving.Application("two", []),
  ]
  assert serving.applications(checkpoint) == serving.applications(tmp_path)
  assert serving.applications(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"max_batch": 0}, "max_batch = 0"),
    ({"max_waiting": 3}, "max_waiting = 3 must be at least max_batch"),
    ({"time_limit": float("nan")}, "time_limit"),
  ],
)
def test_limits_that_make_no_sense_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    serving.Limits(**settings)
