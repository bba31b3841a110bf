"""T5X's `optimizers`: optax behind its names. May import: `optim`."""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NoReturn

import optax

from t2tjax import optim


def OptaxWrapper(  # noqa: N802
  optax_optimizer: optax.GradientTransformation,
) -> optim.OptaxOptimizer:
  """Returns a complete optax optimizer, which has its own learning rate."""
  return optim.OptaxOptimizer(optax_optimizer, applies_learning_rate=True)


def wrap_optax_optimizer(
  optax_optimizer: Callable[..., optax.GradientTransformation],
) -> Callable[..., optim.OptaxOptimizer]:
  """Returns a function with the parameters of one of optax's."""

  @functools.wraps(optax_optimizer)
  def wrapped(*args: Any, **kwargs: Any) -> optim.OptaxOptimizer:
    return OptaxWrapper(optax_optimizer(*args, **kwargs))

  return wrapped


def chain(
  transformations: Sequence[optax.GradientTransformation],
) -> optim.OptaxOptimizer:
  """Returns `optax.chain` of transformations, the learning rate included."""
  return OptaxWrapper(optax.chain(*transformations))


def MultiOptimizer(  # noqa: N802
  traversals_and_optimizers: Sequence[tuple[Any, Any]],
) -> optim.MultiOptimizer:
  """Refuses: T5X's traversals are Python functions of a user's own."""
  raise ValueError(
    "optimizers.MultiOptimizer with traversals is not supported: bind "
    "t2tjax's optim.MultiOptimizer.rules, pairs of a regular expression and "
    f"an optimizer, in place of {len(traversals_and_optimizers)} traversals."
  )


def amos(*args: Any, **kwargs: Any) -> NoReturn:
  """Refuses: it is a package of its own, which optax has not."""
  raise ValueError(
    "optimizers.amos is not supported: bind OPTIMIZER to another optimizer, "
    "such as @adafactor.Adafactor() or @optimizers.adamw()."
  )


adabelief = wrap_optax_optimizer(optax.adabelief)
adagrad = wrap_optax_optimizer(optax.adagrad)
adam = wrap_optax_optimizer(optax.adam)
adamw = wrap_optax_optimizer(optax.adamw)
fromage = wrap_optax_optimizer(optax.fromage)
lars = wrap_optax_optimizer(optax.lars)
lamb = wrap_optax_optimizer(optax.lamb)
lion = wrap_optax_optimizer(optax.lion)
noisy_sgd = wrap_optax_optimizer(optax.noisy_sgd)
radam = wrap_optax_optimizer(optax.radam)
rmsprop = wrap_optax_optimizer(optax.rmsprop)
sgd = wrap_optax_optimizer(optax.sgd)
yogi = wrap_optax_optimizer(optax.yogi)
dpsgd = wrap_optax_optimizer(optax.contrib.dpsgd)
