"""A trained model as a Python object: tokens or texts in, results out.

Made by `loading`. May import: layers 0 to 4 and this package.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from t2tjax import decoding, networks, trees
from t2tjax.data import layouts, vocabularies
from t2tjax.inference import inputs as inputs_lib
from t2tjax.inference import texts as texts_lib
from t2tjax.inference.generation import Generation
from t2tjax.models import base
from t2tjax.partitioning import Partitioner
from t2tjax.typing import Params

# What is not a target, here and in transformers.
_IGNORED = -100
# Texts are never cut: T5 takes any length.
_NO_LIMIT = 1 << 20
# A feature of its own beside those of the batch.
_PREFIX = "forced_prefix"

# Token ids: one row per input, an array padded with 0 or lists of any lengths.
Tokens = np.ndarray | Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class NoVocabulary(vocabularies.Vocabulary):
  """Stands for a vocabulary that is not there: sizes only.

  Attributes:
    vocab_size: rows of the network.
    reason: what to do about it.
  """

  vocab_size: int
  reason: str
  eos_id: int = 1
  unk_id: int = 2
  extra_ids: int = 0

  def encode(self, text: str) -> list[int]:
    """Raises ValueError."""
    raise ValueError(self.reason)


class LoadedModel:
  """A model, its parameters and its vocabulary.

  Programs are compiled once per method, settings and shape; rows and lengths
  are padded to powers of two, which changes no result.

  Attributes:
    model: one of `models`, for its loss and gradients.
    params: its parameters, on devices.
    path: where they are from.
    step: optimizer steps behind them.
  """

  def __init__(
    self,
    model: base.LanguageModel,
    params: Params,
    partitioner: Partitioner,
    *,
    path: str,
    step: int,
    description: str,
  ):
    """Holds what `load` made."""
    self.model = model
    self.params = params
    self.path = path
    self.step = step
    self._partitioner = partitioner
    self._description = description
    self._programs: dict[Any, Callable[..., Any]] = {}
    self._text_models: dict[Any, texts_lib.TextModel] = {}

  @property
  def config(self) -> networks.T5Config | networks.DecoderOnlyConfig:
    """Sizes and choices of the network."""
    return self.model.module.config

  # ------------------------------------------------ Tokens
  def logits(
    self, encoder_tokens: Tokens | None, decoder_tokens: Tokens
  ) -> np.ndarray:
    """Returns fp32 logits `[batch, length, vocab]` of the next tokens.

    Args:
      encoder_tokens: inputs; 0 pads. None for a decoder-only model.
      decoder_tokens: what the decoder reads: 0, then the targets.
    """
    read = self._array(decoder_tokens, "decoder_tokens")
    shape = read.shape
    if self.model.feature_layout == "decoder_only":
      if encoder_tokens is not None:
        raise ValueError(
          "logits: a decoder-only model has no encoder; give None and the"
          " whole rows as decoder_tokens."
        )
      arrays = {"decoder_input_tokens": self._padded(read)}
    else:
      inputs = self._array(encoder_tokens, "encoder_tokens")
      _check_rows(encoder_tokens=inputs, decoder_tokens=read)
      arrays = {
        "encoder_input_tokens": self._padded(inputs),
        "decoder_input_tokens": self._padded(read),
      }
    module = self.model.module

    def function(params, arrays):
      return module.apply({"params": params}, **arrays)

    logits = self._run("logits", function, arrays)
    return logits[: shape[0], : shape[1]]

  def loss(self, encoder_tokens: Tokens, target_tokens: Tokens) -> float:
    """Returns the mean negative log likelihood of the target tokens.

    The mean is over all real targets of all rows; 0 (padding) and -100 are
    none. With padding given as -100 it is the `loss` of transformers, whose
    mean counts targets that are 0.

    Args:
      encoder_tokens: inputs; 0 pads.
      target_tokens: targets with their EOS; the decoder reads them shifted.
    """
    batch = self._batch(encoder_tokens, target_tokens)
    sums = self._run("loss", self.model.eval_fn, batch)
    if not sums["weight_sum"]:
      raise ValueError("loss: target_tokens has no real target.")
    return float(sums["nll_sum"]) / float(sums["weight_sum"])

  def generate(
    self,
    encoder_tokens: Tokens,
    *,
    max_new_tokens: int = 64,
    num_return_sequences: int = 1,
    seed: int = 0,
    return_scores: bool = False,
    forced_prefix: Tokens | None = None,
    **generation: Any,
  ) -> Any:
    """Returns generated tokens, with EOS, and 0 after it.

    Greedy without further arguments.

    Args:
      encoder_tokens: inputs; 0 pads. The prompt of a decoder-only model.
      max_new_tokens: most tokens of a row, EOS included.
      num_return_sequences: samples, or the best of the beams, per input.
      seed: of sampling.
      return_scores: whether to return also the score of each row: its log
        probability; of a beam search, that normalised by the length.
      forced_prefix: what the answer to each input begins with; 0 pads. It is
        part of what is returned and of `max_new_tokens`.
      **generation: fields of `Generation`. `num_beams` searches by the rules
        of transformers, with their `length_penalty` and `early_stopping`, or
        by those of T5X if `alpha` is given. `temperature` draws, from the
        `top_k` most probable or the `top_p` most probable mass.
        `repetition_penalty`, `no_repeat_ngram_size`, `min_new_tokens` and
        `prefix_allowed_tokens_fn` constrain as in transformers, and
        `logits_processors` by functions of `decoding` or of your own.

    Returns:
      int32 `[batch, max_new_tokens]`, or `[batch, num_return_sequences,
      max_new_tokens]` if more than 1, and scores without the last axis.
    """
    settings = Generation(**generation)
    made = settings.num_beams
    if settings.temperature:
      made = num_return_sequences
    if num_return_sequences > made:
      raise ValueError(
        f"num_return_sequences = {num_return_sequences} needs num_beams of at"
        f" least that (it is {settings.num_beams}), or temperature."
      )
    rows = len(encoder_tokens)
    batch = self._batch(encoder_tokens, [[1]] * rows)
    if forced_prefix is not None:
      prefix = self._array(forced_prefix, "forced_prefix")
      batch[_PREFIX] = self._prefix(prefix, rows, max_new_tokens)
    asked = rows if settings.prefix_allowed_tokens_fn else None
    eos_id = self.model.output_vocabulary.eos_id

    def function(params, batch, key):
      batch = dict(batch)
      prefix = batch.pop(_PREFIX, None)
      model = self.model.with_decode_fn(
        settings.decode_fn(eos_id, prefix, num_inputs=asked)
      )
      return model.predict_batch_with_aux(
        params,
        batch,
        key,
        max_decode_steps=max_new_tokens,
        num_decodes=made,
        return_all_decodes=True,
      )

    name = ("generate", settings, max_new_tokens, made, asked)
    tokens, aux = self._run(name, function, batch, jax.random.key(seed))
    tokens = tokens[:rows, :num_return_sequences]
    scores = aux["scores"][:rows, :num_return_sequences]
    if num_return_sequences == 1:
      tokens, scores = tokens[:, 0], scores[:, 0]
    return (tokens, scores) if return_scores else tokens

  # ------------------------------------------------ Texts
  def predict(
    self,
    texts: Sequence[str],
    *,
    max_new_tokens: int = 128,
    batch_size: int = 32,
    seed: int = 0,
    forced_prefix: str = "",
    **generation: Any,
  ) -> list[str]:
    """Returns the answer to each text.

    Args:
      texts: inputs; EOS is added, as in training from files.
      max_new_tokens: most tokens of an answer.
      batch_size: rows that are decoded together.
      seed: of sampling.
      forced_prefix: what every answer begins with.
      **generation: fields of `Generation`, as for `generate`; without any and
        without a prefix, the model's own decoding function. Rows are sorted
        by length, so that `prefix_allowed_tokens_fn` cannot tell texts apart
        by its first argument.
    """
    if forced_prefix:
      ids = self.model.output_vocabulary.encode(forced_prefix)
      generation["logits_processors"] = [
        *generation.get("logits_processors", ()),
        decoding.ForcedPrefix(tuple(ids)),
      ]
    settings = Generation(**generation) if generation else None
    name = ("predict", settings, max_new_tokens, batch_size, seed)
    rows = [{"inputs": ids} for ids in self._encode(texts, "input")]
    return [fields["prediction"] for fields in self._run_texts(name, rows)]

  def score(
    self,
    inputs: Sequence[str],
    targets: Sequence[str],
    *,
    batch_size: int = 32,
  ) -> np.ndarray:
    """Returns the log likelihood of each target, its EOS included, [batch]."""
    if len(inputs) != len(targets):
      raise ValueError(
        f"score: {len(inputs)} inputs, but {len(targets)} targets."
      )
    rows = [
      {"inputs": ids, "targets": target}
      for ids, target in zip(
        self._encode(inputs, "input"),
        self._encode(targets, "output"),
        strict=True,
      )
    ]
    name = ("score", None, None, batch_size, 0)
    scores = [fields["score"] for fields in self._run_texts(name, rows)]
    return np.array(
      [np.nan if score is None else score for score in scores], np.float64
    )

  def __repr__(self) -> str:
    """Says what it is, in four lines."""
    config, params = self.config, trees.num_elements(self.params)
    layers = (
      f"{config.num_encoder_layers} + {config.num_decoder_layers}"
      if isinstance(config, networks.T5Config)
      else f"{config.num_layers}"
    )
    vocabulary = self.model.output_vocabulary
    return (
      f"LoadedModel of {self.path} ({self._description}, step {self.step:,})\n"
      f"  {type(self.model.module).__name__}: {layers} layers, embedding"
      f" {config.emb_dim}, {config.num_heads} heads of {config.head_dim}, MLP"
      f" {config.mlp_dim} {'*'.join(config.mlp_activations)},"
      f" {config.vocab_size:,} rows\n"
      f"  {params:,} parameters, {config.dtype}, on"
      f" {self._partitioner.mesh.size} {jax.default_backend()} device(s)\n"
      + (
        "  no vocabulary: methods on tokens only"
        if isinstance(vocabulary, NoVocabulary)
        else f"  {type(vocabulary).__name__} of {vocabulary.vocab_size:,} ids"
      )
    )

  # ------------------------------------------------ How
  def _run(self, name: Any, function: Callable, arrays: Any, *extra: Any):
    """Runs a program over rows on the devices, compiled at its first call."""
    with self._partitioner.activate():
      arrays = jax.device_put(dict(arrays), self._partitioner.batch_sharding)
      program = self._programs.setdefault(name, jax.jit(function))
      return jax.tree.map(np.asarray, program(self.params, arrays, *extra))

  def _run_texts(
    self, name: tuple, rows: Sequence[Mapping[str, np.ndarray]]
  ) -> list[dict[str, Any]]:
    mode, settings, max_new_tokens, batch_size, seed = name
    with self._partitioner.activate():
      if name not in self._text_models:
        model = self.model
        if settings is not None:
          model = model.with_decode_fn(
            settings.decode_fn(model.output_vocabulary.eos_id)
          )
        self._text_models[name] = texts_lib.TextModel(
          model,
          self.params,
          self._partitioner,
          mode=mode,
          batch_size=batch_size,
          feature_lengths={"inputs": _NO_LIMIT, "targets": _NO_LIMIT},
          max_decode_steps=max_new_tokens,
          random_seed=seed,
        )
      ((_, fields),) = self._text_models[name].run([(None, rows)])
    return fields

  def _encode(self, texts: Sequence[str], side: str) -> list[np.ndarray]:
    if isinstance(texts, str):
      raise ValueError("Give a list of texts, not one text.")
    vocabulary = getattr(self.model, f"{side}_vocabulary")
    return [inputs_lib.encode(vocabulary, text, True) for text in texts]

  def _batch(
    self, encoder_tokens: Tokens, target_tokens: Tokens
  ) -> dict[str, np.ndarray]:
    """Returns the features of a batch, padded to powers of two."""
    inputs = self._array(encoder_tokens, "encoder_tokens")
    targets = self._array(target_tokens, "target_tokens")
    _check_rows(encoder_tokens=inputs, target_tokens=targets)
    if self.model.feature_layout == "decoder_only":
      return self._prompted(inputs, targets)
    targets = self._padded(targets)
    return {
      "encoder_input_tokens": self._padded(inputs),
      "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
      "decoder_target_tokens": targets,
      "decoder_loss_weights": (targets > 0).astype(np.float32),
    }

  def _prompted(
    self, inputs: np.ndarray, targets: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Returns inputs and targets in one row each, for a decoder."""
    rows = [
      [{"inputs": row[row > 0], "targets": target[target > 0]}]
      for row, target in zip(inputs, targets, strict=True)
    ]
    length = inputs.shape[1] + targets.shape[1]
    layout = layouts.make_layout(
      "decoder_only",
      {"inputs": texts_lib.bucket(length, _NO_LIMIT) - 1, "targets": 1},
      pack=False,
    )
    spare = self._num_rows(len(rows)) - len(rows)
    return layout.assemble([*rows, *([] for _ in range(spare))])

  def _prefix(
    self, prefix: np.ndarray, rows: int, max_new_tokens: int
  ) -> np.ndarray:
    """Returns what each row is forced to begin with, padded like a batch."""
    if len(prefix) != rows:
      raise ValueError(
        f"Unequal numbers of rows: encoder_tokens {rows}, forced_prefix"
        f" {len(prefix)}."
      )
    if prefix[:, max_new_tokens:].any():
      raise ValueError(
        f"forced_prefix is longer than max_new_tokens = {max_new_tokens}."
      )
    return self._padded(prefix)

  def _array(self, tokens: Tokens | None, name: str) -> np.ndarray:
    """Returns token ids as a checked int32 array; -100 becomes 0."""
    if tokens is None or len(tokens) == 0:
      raise ValueError(f"{name} has no rows.")
    if not isinstance(tokens, np.ndarray):
      rows = [np.asarray(row) for row in tokens]
      if any(row.ndim != 1 for row in rows):
        raise ValueError(f"{name} must be rows of token ids, [batch, length].")
      dtypes = {row.dtype for row in rows if row.size} or {np.dtype(int)}
      shape = len(rows), max(map(len, rows))
      tokens = np.zeros(shape, np.result_type(*dtypes))
      for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
      raise ValueError(
        f"{name} must be integers [batch, length], not {tokens.dtype}"
        f" {list(tokens.shape)}."
      )
    tokens = np.where(tokens == _IGNORED, 0, tokens)
    rows_of_table = self.config.vocab_size
    wrong = tokens[(tokens < 0) | (tokens >= rows_of_table)]
    if wrong.size:
      raise ValueError(
        f"{name} has the id {wrong[0]}; the network has ids 0 to"
        f" {rows_of_table - 1}."
      )
    return tokens.astype(np.int32)

  def _padded(self, tokens: np.ndarray) -> np.ndarray:
    rows, length = tokens.shape
    return np.pad(
      tokens,
      (
        (0, self._num_rows(rows) - rows),
        (0, texts_lib.bucket(length, _NO_LIMIT) - length),
      ),
    )

  def _num_rows(self, rows: int) -> int:
    """Returns the next power of two that divides over the devices."""
    shards = self._partitioner.num_batch_shards
    power = 1 << max(-(-rows // shards) - 1, 0).bit_length()
    return power * shards


def _check_rows(**arrays: np.ndarray) -> None:
  if len({len(array) for array in arrays.values()}) > 1:
    counts = ", ".join(f"{name} {len(a)}" for name, a in arrays.items())
    raise ValueError(f"Unequal numbers of rows: {counts}.")
