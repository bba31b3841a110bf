"""Values against annotations, by table."""

import collections.abc
import os
import typing
from typing import Any, Literal

import pytest

from t2tjax.config import coercion
from t2tjax.config.values import Bare, MacroRef


class Function(typing.Protocol):
  def __call__(self, tokens: list[int]) -> int: ...


def coerce(value, annotation):
  return coercion.coerce(value, annotation, lambda ref: coercion.UNSET)


@pytest.mark.parametrize(
  "value, annotation, expected",
  [
    (1e5, int, 100_000),
    (-2.0, int, -2),
    (3, float, 3.0),
    (Bare("1e-3"), float, 1e-3),
    (Bare("inf"), float, float("inf")),
    (Bare("false"), bool, False),
    (Bare("/tmp/x"), str, "/tmp/x"),
    (Bare("/tmp/x"), os.PathLike, "/tmp/x"),
    (Bare("/tmp/x"), str | os.PathLike, "/tmp/x"),
    (None, int | None, None),
    (2.0, int | None, 2),
    (2, int | float, 2),
    (2.0, float | int, 2.0),
    ("latest", str | int, "latest"),
    (Bare("true"), str | bool, "true"),
    (Bare("true"), bool | str, True),
    (Bare("adamw"), Literal["adamw", "lion"], "adamw"),
    (Bare("true"), Literal[True, "auto"], True),
    ([1.0, 2], list[int], [1, 2]),
    ((1.0, 2), collections.abc.Sequence[int], (1, 2)),
    ([1, 2], tuple[float, ...], (1.0, 2.0)),
    ([1, Bare("a")], tuple[int, str], (1, "a")),
    ({"data": 2.0}, collections.abc.Mapping[str, int], {"data": 2}),
    ({Bare("a"): None}, dict[str, Any], {"a": None}),
    ([Bare("true"), 1e5], Any, [True, 1e5]),
    (3, typing.Optional[int], 3),  # noqa: UP045
    (3, typing.NewType("Steps", int), 3),
    (3.0, typing.Annotated[int, "steps"], 3),
  ],
)
def test_value_is_made_to_fit(value, annotation, expected):
  fitted = coerce(value, annotation)
  assert fitted == expected
  assert type(fitted) is type(expected)


@pytest.mark.parametrize(
  "value, annotation",
  [
    (1.5, int),
    (True, int),
    (True, float),
    (1, bool),
    ("1", int),
    (1, str),
    (None, int),
    (Bare("none"), int | None),
    (Bare("abc"), Any),
    ("ab", collections.abc.Sequence[str]),
    ([1, 2, 3], tuple[int, int]),
    (1, Literal[True, "auto"]),
    ([("a", 1)], dict[str, int]),
    ({"a": "b"}, dict[str, int]),
    (3, collections.abc.Callable[..., Any]),
    ("x", type),
    ("x", type[int]),
    ("x", Function),
    (Bare("abc"), int | float),
  ],
)
def test_value_that_does_not_fit_is_refused(value, annotation):
  with pytest.raises(coercion.Mismatch):
    coerce(value, annotation)


def test_plain_macro_is_replaced_and_unknown_macro_is_kept():
  macros = {"N": 4.0}
  lookup = lambda ref: macros.get(ref.name, coercion.UNSET)  # noqa: E731
  assert coercion.coerce([MacroRef("N")], list[int], lookup) == [4]
  assert coercion.coerce(MacroRef("M"), int, lookup) == MacroRef("M")


@pytest.mark.parametrize(
  "annotation, name",
  [
    (int | None, "int | None"),
    (collections.abc.Sequence[str], "Sequence[str]"),
    (tuple[int, ...], "tuple[int, ...]"),
    (Literal["a", 2], "one of 'a', 2"),
    (collections.abc.Callable[[int], float], "a function or class"),
  ],
)
def test_types_are_named_as_a_user_would_write_them(annotation, name):
  assert coercion.type_name(annotation) == name
