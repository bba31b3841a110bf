"""What a request may ask for, and the checks that say so.

Called by `app`. May import: nothing of t2tjax.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any, NoReturn

_SHORTEST = 16


class RefusedError(Exception):
  """A request that is not served; its text shows nothing of the inputs.

  Attributes:
    status: of the HTTP response.
    reason: for the one who asked.
  """

  def __init__(self, status: int, reason: str):
    super().__init__(reason)
    self.status = status
    self.reason = reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """Bounds on time and memory, whatever is asked.

  A program is compiled per shape, so the numbers of tokens and beams are one
  of few, and there are at most some hundred programs.

  Attributes:
    max_batch: most inputs of a request, and of a batch.
    max_input_tokens: most tokens of an input or a target, EOS included.
    max_new_tokens: most tokens of an output, EOS included.
    num_beams: what may be searched with.
    max_waiting: inputs that may wait for the model.
    max_body_bytes: of a request.
    time_limit: seconds from the request to its answer.
  """

  max_batch: int = 16
  max_input_tokens: int = 512
  max_new_tokens: int = 128
  num_beams: Sequence[int] = (1, 2, 4, 8)
  max_waiting: int = 256
  max_body_bytes: int = 256 * 1024
  time_limit: float = 60.0

  def __post_init__(self):
    for name in ("max_batch", "max_input_tokens", "max_new_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} = {getattr(self, name)} must be at least 1.")
    if self.max_waiting < self.max_batch:
      raise ValueError(
        f"max_waiting = {self.max_waiting} must be at least max_batch ="
        f" {self.max_batch}."
      )
    if not self.time_limit > 0:
      raise ValueError(f"time_limit = {self.time_limit} must be positive.")

  @property
  def new_tokens(self) -> list[int]:
    """The values that a request may have for `max_new_tokens`."""
    sizes = []
    size = _SHORTEST
    while size < self.max_new_tokens:
      sizes.append(size)
      size *= 2
    return [*sizes, self.max_new_tokens]

  @property
  def default_new_tokens(self) -> int:
    """What a request has that does not say."""
    return max(n for n in self.new_tokens if n <= max(64, self.new_tokens[0]))

  def as_json(self) -> dict[str, Any]:
    """Returns what `/api/model` says."""
    return {
      **dataclasses.asdict(self),
      "num_beams": list(self.num_beams),
      "max_new_tokens": self.new_tokens,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictRequest:
  """Body of `/api/predict`."""

  inputs: Sequence[str]
  max_new_tokens: int
  num_beams: int
  num_return_sequences: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreRequest:
  """Body of `/api/score`: the log likelihood of each target is wanted."""

  inputs: Sequence[str]
  targets: Sequence[str]


def predict_request(body: bytes, limits: Limits) -> PredictRequest:
  """Returns the request in a body.

  Raises:
    RefusedError: there is none.
  """
  fields = _fields(
    body, ("inputs", "max_new_tokens", "num_beams", "num_return_sequences")
  )
  request = PredictRequest(
    inputs=_texts(fields, "inputs", limits),
    max_new_tokens=_choice(
      fields, "max_new_tokens", limits.new_tokens, limits.default_new_tokens
    ),
    num_beams=_choice(
      fields, "num_beams", limits.num_beams, limits.num_beams[0]
    ),
    num_return_sequences=_choice(
      fields, "num_return_sequences", range(1, max(limits.num_beams) + 1), 1
    ),
  )
  if request.num_return_sequences > request.num_beams:
    _refuse(
      f"num_return_sequences = {request.num_return_sequences} needs num_beams"
      f" of at least that; it is {request.num_beams}."
    )
  return request


def score_request(body: bytes, limits: Limits) -> ScoreRequest:
  """Returns the request in a body.

  Raises:
    RefusedError: there is none.
  """
  fields = _fields(body, ("inputs", "targets"))
  request = ScoreRequest(
    inputs=_texts(fields, "inputs", limits),
    targets=_texts(fields, "targets", limits),
  )
  if len(request.inputs) != len(request.targets):
    _refuse(
      f"There are {len(request.inputs)} inputs, but {len(request.targets)}"
      " targets."
    )
  return request


def _fields(body: bytes, known: Sequence[str]) -> Mapping[str, Any]:
  try:
    fields = json.loads(body, parse_constant=_no_number)
  except (ValueError, RecursionError):
    # The error of the parser may show a part of the text.
    raise RefusedError(400, "The body is not valid JSON in UTF-8.") from None
  if not isinstance(fields, dict):
    _refuse(f"The body must be an object with {', '.join(known)}.")
  unknown = [name for name in fields if name not in known]
  if unknown:
    _refuse(
      f"{len(unknown)} unknown parameter(s), the first"
      f" {ascii(unknown[0])[:40]}; known are {', '.join(known)}."
    )
  return fields


def _texts(
  fields: Mapping[str, Any], name: str, limits: Limits
) -> Sequence[str]:
  texts = fields.get(name)
  if not isinstance(texts, list) or not all(
    isinstance(text, str) for text in texts
  ):
    _refuse(f"{name} must be a list of texts.")
  if not 1 <= len(texts) <= limits.max_batch:
    _refuse(
      f"{name} must have 1 to {limits.max_batch} texts, not {len(texts)}."
    )
  for number, text in enumerate(texts):
    try:
      text.encode()
    except UnicodeEncodeError:
      _refuse(f"{name}[{number}] has half of a surrogate pair: no character.")
  return texts


def _choice(
  fields: Mapping[str, Any], name: str, allowed: Sequence[int], default: int
) -> int:
  value = fields.get(name, default)
  if type(value) is not int or value not in allowed:
    _refuse(f"{name} must be one of {', '.join(map(str, allowed))}.")
  return value


def _no_number(constant: str) -> NoReturn:
  raise ValueError(constant)


def _refuse(reason: str) -> NoReturn:
  raise RefusedError(422, reason)
