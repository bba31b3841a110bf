"""What every gin file of a T5X checkout does here.

  python scripts/parity/t5x_gin_corpus.py --t5x_dir=CHECKOUT --work_dir=/tmp/c

Each file runs in a process of its own: read, written and read again, and (those
of the examples and of configs/runs) instantiated, its abstract state built, and
two steps trained, evaluated, inferred or compiled on bundled data. A second
call goes on with the files that have no result yet.
"""

import argparse
from collections.abc import Callable, Sequence
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import sys
import time
from typing import Any

import rich.console
import rich.table
import t5x_gin_cases as cases
from t5x_gin_cases import Case

from t2tjax.config import loader, reach, resolved

STAGES = ("parse", "round_trip", "instantiate", "abstract_state", "run")
EXPECTED = (
  pathlib.Path(__file__).parents[2] / "tests" / "compat" / "t5x_gin_corpus.tsv"
)


# ------------------------------------------------------------------ one file
def examine(
  case: Case, search_path: str | None, *, last: str = "run"
) -> dict[str, str]:
  """Returns the outcome of each stage; stops at the first failure.

  Args:
    case: the file.
    search_path: of the checkout; None for the include files of ours.
    last: the stage to end with.
  """
  outcome = dict.fromkeys(STAGES, "-")
  state: dict[str, Any] = {}
  stages: dict[str, Callable[[], Any]] = {
    "parse": lambda: _parse(case, search_path, state),
    "round_trip": lambda: _round_trip(case, state),
    "instantiate": lambda: _instantiate(state),
    "abstract_state": lambda: _abstract_state(state),
    "run": lambda: _run(case, state),
  }
  if not case.files:
    del stages["instantiate"], stages["abstract_state"], stages["run"]
  elif not case.runs:
    del stages["run"]
  for name, stage in stages.items():
    if STAGES.index(name) > STAGES.index(last):
      break
    try:
      outcome[name] = stage() or "ok"
    except Exception as error:  # Whatever it is, it is the outcome.
      first_line = str(error).strip().replace("\n", " ")[:300]
      outcome[name] = f"{type(error).__name__}: {first_line}"
      break
  return outcome


def _run_function(command: str) -> Callable[..., Any]:
  """Returns our run function; the loader exchanges it for T5X's."""
  from t2tjax import evaluate, infer, precompile, train
  from t2tjax.compat.t5x import export_lib

  return {
    "evaluate": evaluate.evaluate,
    "infer": infer.infer,
    "precompile": precompile.precompile,
    "save": export_lib.save,
  }.get(command, train.train)


def _parse(case: Case, search_path: str | None, state: dict) -> None:
  state["search_paths"] = [search_path] if search_path else []
  state["program"] = read([case.path], case.command, state["search_paths"])


def read(
  files: Sequence[str], command: str, search_paths: Sequence[str]
) -> Any:
  """Reads gin files without asking for what they require of others."""
  return loader.read(
    _run_function(command),
    files,
    search_paths=search_paths,
    t5x_compat="force",
  )


def _round_trip(case: Case, state: dict) -> None:
  if not case.files:
    # What nothing refers to is not written: a part is compared with a part.
    again = _again(case, state, _written(state["program"]))
    if _written(_again(case, state, _written(again))) != _written(again):
      raise ValueError("written and read again, it says something else")
    return
  load(case, state)
  before = state["config"]
  path = pathlib.Path.cwd() / "again.gin"
  path.write_text(before.to_gin())
  after = loader.load(
    _run_function(case.command), [str(path)], t5x_compat="force"
  )
  if after.sha256 != before.sha256:
    raise ValueError("written and read again, it says something else")
  load(case, state)  # A configuration is gin's current one.


def _again(case: Case, state: dict, text: str) -> Any:
  path = pathlib.Path.cwd() / "again.gin"
  path.write_text(text)
  return read([str(path)], case.command, state["search_paths"])


def _written(program: Any) -> str:
  return resolved.write(
    program, reach.Reach(program), origins=False, defaults=False
  )


def load(case: Case, state: dict[str, Any]) -> None:
  """Loads the whole configuration that a file is part of."""
  search_paths = state["search_paths"]
  whole = read(case.files, case.command, search_paths)
  state["config"] = loader.load(
    _run_function(case.command),
    case.files,
    cases.bindings_of(case, whole),
    search_paths=search_paths,
    t5x_compat="force",
  )


def _instantiate(state: dict) -> None:
  state["arguments"] = state["config"].arguments()


def _abstract_state(state: dict) -> str:
  from t2tjax import data, partitioning, trainer, trees

  arguments = state["arguments"]
  model = arguments["model"]
  config = arguments.get("train_dataset_cfg") or data.DatasetConfig(
    mixture_or_task_name="", task_feature_lengths={"inputs": 8, "targets": 8}
  )
  abstract, _ = trainer.abstract_state(
    model,
    arguments.get("partitioner") or partitioning.Partitioner(),
    data.batch_spec(config, model.feature_layout),
  )
  return f"ok {trees.num_elements(abstract.params):,}"


def _run(case: Case, state: dict) -> str:
  arguments = state["arguments"]
  try:
    result = state["config"].run_function(**arguments)
  except ValueError:
    if case.command != "save":
      raise
    return "refused"
  if case.command == "train":
    from t2tjax.trainer import writers

    records = writers.read_metrics(arguments["model_dir"])
    steps = [r["step"] for r in records if r["run"] == "train"]
    # The tiny checkpoint has two steps behind it.
    begins = 2 if arguments["checkpoint_cfg"].restore else 0
    return f"{max(steps, default=begins) - begins} steps"
  return {
    "evaluate": f"evaluated {len(result)}",
    "infer": f"inferred {(result or {}).get('predictions')}",
    "precompile": "compiled",
  }[case.command]


# ------------------------------------------------------------------- corpus
def prepare(root: pathlib.Path, search_path: str | None) -> None:
  """Trains the tiny checkpoint that eval and infer files use."""
  root.mkdir(parents=True, exist_ok=True)
  if not (root / "examples.tfrecord").exists():
    _in_process(write_tfexamples, (root,), root / "tfexamples.log", 600)
  if (root / "tiny" / "checkpoint_2").exists():
    return
  macros = {**cases.TRAIN, "MODEL_DIR": f"'{root / 'tiny'}'"}
  tiny = Case(
    cases.TINY_MODEL,
    "train",
    (cases.TINY_MODEL, cases.PRETRAIN),
    tuple(macros.items()),
    runs=True,
  )
  outcome = run_case(tiny, search_path, root, timeout=900)
  if outcome["run"] != "2 steps":
    raise SystemExit(f"no checkpoint to evaluate: {outcome}")


def write_tfexamples(root: pathlib.Path) -> None:
  """Writes the inputs of `infer_from_tfexample_file.gin`."""
  import tensorflow as tf

  path = root / "examples.tfrecord"
  with tf.io.TFRecordWriter(str(path) + ".partial") as writer:
    for text in ("symbol of gold?", "symbol of iron?", "symbol of tin?"):
      values = tf.train.BytesList(value=[text.encode()])
      features = {"inputs": tf.train.Feature(bytes_list=values)}
      example = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(example.SerializeToString())
  os.replace(str(path) + ".partial", path)


def _in_process(
  function: Callable[..., Any],
  arguments: tuple,
  log: pathlib.Path,
  timeout: float,
) -> Any:
  """Calls a function in a forked process; its output goes to a file."""
  context = multiprocessing.get_context("fork")
  receiver, sender = context.Pipe(duplex=False)

  def work():
    with open(log, "w") as file:
      os.dup2(file.fileno(), 1)
      os.dup2(file.fileno(), 2)
      sender.send(function(*arguments))

  process = context.Process(target=work)
  process.start()
  result = receiver.recv() if receiver.poll(timeout) else None
  process.join(10)
  process.kill()
  return result


def run_case(
  case: Case,
  search_path: str | None,
  root: pathlib.Path,
  *,
  timeout: float,
  last: str = "run",
) -> dict[str, str]:
  """Examines one file in a process of its own."""
  folder = root / "work" / cases.flat(case.path)
  shutil.rmtree(folder, ignore_errors=True)
  shutil.rmtree(root / "out" / cases.flat(case.path), ignore_errors=True)
  folder.mkdir(parents=True)

  def work():
    os.chdir(folder)
    return examine(case, search_path, last=last)

  found = _in_process(work, (), folder / "log", timeout)
  if found is None:
    found = dict.fromkeys(STAGES, "-") | {"parse": f"no answer in {timeout} s"}
  return found


def corpus(t5x_dir: pathlib.Path) -> list[str]:
  """Returns the gin files below a checkout, as T5X's includes name them."""
  return sorted(
    path.relative_to(t5x_dir).as_posix()
    for path in (t5x_dir / "t5x").rglob("*.gin")
  )


def expected(path: pathlib.Path = EXPECTED) -> dict[str, dict[str, str]]:
  """Returns the outcome that is kept for each file."""
  lines = path.read_text().splitlines()
  names = lines[0].split("\t")
  rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]
  return {row.pop("file"): row for row in rows}


def write_table(found: dict[str, dict[str, str]], path: pathlib.Path) -> None:
  """Writes a line for each file."""
  lines = ["\t".join(("file", *STAGES))]
  lines += [
    "\t".join((name, *(row[stage] for stage in STAGES)))
    for name, row in sorted(found.items())
  ]
  path.write_text("\n".join(lines) + "\n")


def show(found: dict[str, dict[str, str]]) -> None:
  """Prints the table and how many files pass each stage."""
  table = rich.table.Table("file", *STAGES)
  for name, row in sorted(found.items()):
    table.add_row(name, *(row[stage][:60] for stage in STAGES))
  console = rich.console.Console()
  console.print(table)
  for stage in STAGES:
    tried = [row[stage] for row in found.values() if row[stage] != "-"]
    failed = sum(bool(re.match(r"\w+Error|no answer", text)) for text in tried)
    console.print(f"{stage}: {len(tried) - failed} of {len(tried)}")


def outline(row: dict[str, str]) -> tuple[str, ...]:
  """Returns what of an outcome must stay: not the wording of errors."""
  return tuple(re.sub(r"^(\w+Error):.*", r"\1", row[stage]) for stage in STAGES)


def run(
  t5x_dir: pathlib.Path,
  work_dir: pathlib.Path,
  *,
  only: str = "",
  last: str = "run",
  timeout: float = 900.0,
) -> dict[str, dict[str, str]]:
  """Returns the outcome of every file; goes on where an earlier call ended.

  Args:
    t5x_dir: the checkout.
    work_dir: for results, checkpoints and logs.
    only: part of the path of the files to look at.
    last: the stage to end with.
    timeout: seconds for each.
  """
  root, checkout = work_dir.absolute(), t5x_dir.absolute()
  prepare(root, str(checkout))
  results = root / f"results_{last}"
  results.mkdir(exist_ok=True)
  _run_function("train")  # Imports once what every process needs.
  found = {}
  for path in corpus(checkout):
    if only not in path:
      continue
    kept = results / f"{cases.flat(path)}.json"
    if not kept.exists():
      start = time.monotonic()
      case = cases.case_of(path, (checkout / path).read_text(), root)
      outcome = run_case(case, str(checkout), root, timeout=timeout, last=last)
      kept.write_text(json.dumps(outcome))
      seconds = time.monotonic() - start
      print(f"{seconds:6.1f} s  {path}  {outcome}", file=sys.stderr)
    found[path] = json.loads(kept.read_text())
  return found


def main() -> None:
  """Runs the corpus and shows what came out."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--t5x_dir", required=True, type=pathlib.Path)
  parser.add_argument("--work_dir", required=True, type=pathlib.Path)
  parser.add_argument("--only", default="", help="part of the path")
  parser.add_argument("--last", default="run", choices=STAGES)
  parser.add_argument("--timeout", default=900.0, type=float)
  parser.add_argument("--write_expected", action="store_true")
  flags = parser.parse_args()
  found = run(
    flags.t5x_dir,
    flags.work_dir,
    only=flags.only,
    last=flags.last,
    timeout=flags.timeout,
  )
  show(found)
  write_table(found, flags.work_dir / "corpus.tsv")
  if flags.write_expected:
    write_table({p: neutral(row) for p, row in found.items()}, EXPECTED)


def neutral(row: dict[str, str]) -> dict[str, str]:
  """Returns an outcome as it is kept: errors by their kind alone."""
  return dict(zip(STAGES, outline(row), strict=True))


if __name__ == "__main__":
  main()
