"""The command: a server in a process of its own."""

import concurrent.futures
import contextlib
import http.client
import itertools
import json
import signal
import socket
import subprocess
import time

import pytest
import served_models

pytest.importorskip("uvicorn", reason="needs the extra [demo]")

import t2tjax  # noqa: E402
from t2tjax import serve  # noqa: E402

TOKEN = "a-token-that-nobody-guesses"
SECRET = "nobody may read this"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return served_models.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def server(directory, tmp_path_factory):
  log = tmp_path_factory.mktemp("log") / "log"
  with served_models.running(directory, log) as server:
    yield server


def fails(capsys, *arguments):
  with pytest.raises(SystemExit) as stop:
    serve.main([*map(str, arguments)])
  assert stop.value.code == 2
  return capsys.readouterr().err


def test_a_hundred_at_once_get_their_own_answers(server, directory):
  texts = [f"text {i} " + "x" * (i % 40) for i in range(100)]
  want = t2tjax.load(directory).predict(texts, max_new_tokens=16)

  def ask(text):
    body = {"inputs": [text], "max_new_tokens": 16}
    status, _, answer = server.send("POST", "/api/predict", body)
    return status, answer["outputs"][0]["output"]

  with concurrent.futures.ThreadPoolExecutor(100) as pool:
    assert list(pool.map(ask, texts)) == [(200, text) for text in want]


def test_a_huge_body_is_refused_before_it_is_read(server):
  with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
    connection.sendall(
      b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length:"
      b" 99999999999\r\nContent-Type: application/json\r\n\r\n{"
    )
    answer = connection.makefile("rb").read()
  assert answer.startswith(b"HTTP/1.1 413")
  assert b"262,144 bytes" in answer


@pytest.mark.parametrize(
  "sent",
  [
    b"\x00\xff garbage\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/score HTTP/1.1\r\nHost: [::1\r\nContent-Length: 0\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
  ],
  ids=["garbage", "length", "host", "header"],
)
def test_what_is_no_http_is_a_bad_request(server, sent):
  with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
    connection.sendall(sent)
    assert connection.recv(10_000).startswith(b"HTTP/1.1 4")
  assert server.send("GET", "/api/model")[0] == 200


def test_a_client_that_leaves_harms_nobody(server):
  for _ in range(20):
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
      connection.sendall(
        b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length:"
        b" 900\r\nContent-Type: application/json\r\n\r\n{"
      )
  body = {"inputs": ["a"], "max_new_tokens": 16}
  assert server.send("POST", "/api/predict", body)[0] == 200


def test_sigterm_answers_what_it_has_and_exits_with_0(directory, tmp_path):
  # A search takes a while, most of all where no cache has its program yet.
  body = {"inputs": [SECRET] * 8, "max_new_tokens": 16, "num_beams": 8}
  headers = {"Content-Type": "application/json"}
  with (
    served_models.running(directory, tmp_path / "log") as server,
    contextlib.ExitStack() as stack,
  ):
    connections = [
      http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
      for _ in range(8)
    ]
    for connection in connections:
      stack.callback(connection.close)
      connection.request("GET", "/api/model")
      connection.getresponse().read()
    for connection in connections:
      connection.request("POST", "/api/predict", json.dumps(body), headers)
    time.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    for connection in connections:
      response = connection.getresponse()
      assert response.status == 200
      assert len(json.load(response)["outputs"]) == 8
    assert server.process.wait(60) == 0
    log = server.log.read_text()
    assert log.count("POST /api/predict 200") == 8
    assert SECRET not in log and "Traceback" not in log


def test_a_token_opens_any_address_and_is_not_logged(directory, tmp_path):
  with served_models.running(
    directory, tmp_path / "log", "--host=0.0.0.0", T2TJAX_SERVE_TOKEN=TOKEN
  ) as server:
    assert server.send("GET", "/api/model")[0] == 401
    wrong = {"Authorization": f"Bearer {TOKEN}!"}
    assert server.send("GET", "/api/model", **wrong)[0] == 401
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert server.send("GET", "/api/model", **right)[0] == 200
    assert server.send("GET", f"/{TOKEN}?{TOKEN}")[0] == 404
    assert TOKEN not in server.log.read_text()
    with open(f"/proc/{server.process.pid}/cmdline") as file:
      assert TOKEN not in file.read()


def test_a_public_address_needs_a_token(
  directory, tmp_path, monkeypatch, capsys
):
  for host in ("0.0.0.0", "192.0.2.1", "::", "example.com"):
    said = fails(capsys, directory, f"--host={host}")
    assert "which needs a token" in said
  monkeypatch.setenv("T2TJAX_SERVE_TOKEN", "short")
  assert "at least 16" in fails(capsys, directory, "--host=0.0.0.0")
  (tmp_path / "token").write_text("sp ace " * 9)
  file = f"--token_file={tmp_path / 'token'}"
  assert "no space" in fails(capsys, directory, "--host=0.0.0.0", file)
  assert "cannot be read" in fails(capsys, directory, "--token_file=/nowhere")


def test_mistakes_are_named(directory, server, tmp_path, capsys):
  assert "has no model.gin" in fails(capsys, tmp_path, "--port=0")
  assert "max_batch = 0" in fails(capsys, directory, "--max_batch=0")
  for port in (server.port, 99999):
    assert f"port = {port}" in fails(capsys, directory, f"--port={port}")


def test_the_command_refuses_before_it_loads_anything(tmp_path):
  done = subprocess.run(
    **served_models.command(tmp_path / "nothing", "--host=0.0.0.0"),
    capture_output=True,
    timeout=120,
  )
  assert done.returncode == 2 and done.stdout == ""
  assert done.stderr.startswith("error: host = '0.0.0.0'")


@pytest.mark.slow
def test_memory_is_flat_over_many_requests(server):
  def ask(text, rows, beams):
    body = {"inputs": [text] * rows, "max_new_tokens": 16, "num_beams": beams}
    return server.send("POST", "/api/predict", body)[0]

  texts = ["ab", "c" * 20, "d" * 50]
  # Every program that there will be.
  for shape in itertools.product(texts, (1, 4, 8), (1, 4)):
    assert ask(*shape) == 200
  shapes = [(texts[i % 3], 1 + i % 8, (1, 4)[i % 2]) for i in range(500)]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda shape: ask(*shape), shapes[:50]))
    before = server.resident_mb()
    assert set(pool.map(lambda shape: ask(*shape), shapes)) == {200}
  assert server.resident_mb() - before < 5
