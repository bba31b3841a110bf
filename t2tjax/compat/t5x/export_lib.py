"""T5X's `export_lib`: its configurations are read, and refused when called.

May import: nothing of t2tjax.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

_REFUSAL = (
  "T5X's export to a TensorFlow SavedModel is not available; export serialised "
  "JAX functions with python -m t2tjax.export --input=CHECKPOINT --output=DIR, "
  "or use python -m t2tjax.infer on the checkpoint."
)


def save(
  *,
  model: Any,
  inference_mode: Any,
  restore_checkpoint_cfg: Any,
  exportable_module_cls: Callable[..., Any],
  partitioner: Any,
  output_features: Mapping[str, Any] | None,
  task_feature_lengths: Mapping[str, int],
  batch_size: int | None,
  output_dir: str | Mapping[str, str],
  model_name: str,
  create_preprocessor_fn: Callable[..., Any] | None = None,
  create_inference_function_fn: Callable[..., Any] | None = None,
  create_postprocessor_fn: Callable[..., Any] | None = None,
  create_decoding_state_callback_fn: Callable[..., Any] | None = None,
  create_polymorphic_shapes_fn: Callable[..., Any] | None = None,
  warmup_examples: Any = None,
  tokenized_inputs: bool = False,
  write_warmup_example_fn: Callable[..., None] | None = None,
  mixture_or_task_name: str | None = None,
  validation_examples: Sequence[Any] | None = None,
  native_lowering: bool = True,
  native_lowering_platforms: Sequence[str] | None = None,
  enable_xla: bool = True,
  decode_outputs: bool | None = None,
  trailing_shapes: Mapping[str, tuple[int, ...]] | None = None,
  output_vocab_feature_name: str | None = "targets",
  signature_name: str = "serving_default",
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


class ExportableModule:
  """What T5X would save; the parameters are T5X's."""

  def __init__(
    self,
    preproc_tf_fn: Any = None,
    model_fn: Any = None,
    postproc_tf_fn: Any = None,
    params: Any = None,
    batch_size: int | None = None,
    *,
    jit_compile: bool = True,
    use_batch_function: bool = False,
    num_batch_threads: int = 8,
    max_enqueued_batches: int = 64,
    batch_timeout_micros: int = 1000000,
    allowed_batch_sizes: Sequence[int] | None = None,
    use_gpu: bool = False,
    **jax_args: Any,
  ):
    """Refuses."""
    raise ValueError(_REFUSAL)


def create_preprocessor(
  batch_size: int | None,
  output_features: Mapping[str, Any] | None,
  task_feature_lengths: Mapping[str, int],
  tokenized_inputs: bool = False,
  **unused: Any,
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


def create_preprocessor_from_task(
  batch_size: int | None,
  output_features: Mapping[str, Any] | None,
  task_feature_lengths: Mapping[str, int],
  tokenized_inputs: bool = False,
  *,
  model: Any,
  task_name: str,
  serialized_examples: bool = False,
  run_precache: bool = False,
  **unused: Any,
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


def create_decoder_preprocessor(
  output_features: Mapping[str, Any],
  task_feature_lengths: Mapping[str, int],
  tokenized_inputs: bool = False,
  **unused: Any,
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


def create_inference_function(
  *,
  model: Any,
  inference_mode: Any,
  partitioner: Any,
  native_lowering_platforms: Sequence[str] | None = None,
  output_len: int | None = None,
  **unused: Any,
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


def create_postprocessor(
  vocab: Any,
  inference_mode: Any,
  decode_outputs: bool | None = None,
  output_feature_names: Sequence[str] | None = None,
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


def create_batch_polymorphic_shapes(
  input_signature: Any, batch_size: int | None, **unused: Any
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)


def write_warmup_examples(
  warmup_examples: Any, output_dir: str, model_name: str, **unused: Any
) -> NoReturn:
  """Refuses; the parameters are T5X's."""
  raise ValueError(_REFUSAL)
