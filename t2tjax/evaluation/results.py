"""What an evaluation gives back, and the file its predictions are kept in.

Made by `Evaluator`, read by the run functions and `tables`; imports nothing.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib


@dataclasses.dataclass(frozen=True)
class Sample:
  """One example as it went in, came out, and should have come out.

  Attributes:
    inputs: its text.
    prediction: the model's text.
    target: the text of the target.
    targets: all accepted texts, where there are several.
    correct: whether the prediction is right, where that was judged.
    score: how near it comes, on the scale of the task's metric.
  """

  inputs: str
  prediction: str
  target: str
  targets: Sequence[str] | None = None
  correct: bool | None = None
  score: float | None = None

  def withheld(self) -> "Sample":
    """Returns the sample with lengths in place of its texts."""
    inputs, prediction, target = (
      f"<{len(text)} characters, withheld>" for text in self.texts()
    )
    return Sample(inputs, prediction, target)

  def texts(self) -> tuple[str, str, str]:
    """Returns the inputs, the prediction and the target."""
    return self.inputs, self.prediction, self.target


@dataclasses.dataclass(frozen=True)
class EvalResult:
  """Metrics and samples of one task.

  Attributes:
    task: its name.
    metrics: name to value, of all its metric functions together.
    samples: some examples, evenly spread over the split.
    num_examples: how many examples the metrics are over.
    seconds: wall time of decoding and scoring.
    intervals: metric name -> 95% confidence interval, if they were wanted.
  """

  task: str
  metrics: Mapping[str, float]
  samples: Sequence[Sample] = ()
  num_examples: int = 0
  seconds: float = 0.0
  intervals: Mapping[str, tuple[float, float]] = dataclasses.field(
    default_factory=dict
  )


def write_predictions(
  path: str | os.PathLike, samples: Sequence[Sample]
) -> None:
  """Writes one JSON object a line, visible only when whole."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f".{path.name}.{os.getpid()}")
  with open(partial, "w", encoding="utf-8") as file:
    for sample in samples:
      fields = dataclasses.asdict(sample)
      known = {k: v for k, v in fields.items() if v is not None}
      file.write(json.dumps(known, ensure_ascii=False) + "\n")
  os.replace(partial, path)
