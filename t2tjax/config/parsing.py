"""Gin text to statements, each with its file and line or its flag.

Called by `loader`; builds on gin's own parser and adds text without quotes.
"""

from __future__ import annotations

from collections.abc import Iterator
import re
import tokenize
from typing import Any, TypeAlias

from gin import config_parser

from t2tjax.config import values

Statement: TypeAlias = (
  config_parser.BindingStatement
  | config_parser.BlockDeclaration
  | config_parser.ImportStatement
  | config_parser.IncludeStatement
)

# Text that may stand without quotes in a file: a word, a number with a suffix,
# a path, a URL.
_BARE = re.compile(r"[\w./~:+\-=,$*]+")
# On the command line the shell has eaten the quotes, so any text that is not
# the beginning of another kind of value is taken as it is.
_BARE_FLAG = re.compile(r"""[^@%\[({'"\s][^\n]*""")
_BINDING_NAME = re.compile(r"(\w+/)*\w+(\.\w+)*")
_LINE_ENDS = (tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.DEDENT)


class GinSyntaxError(Exception):
  """Text that is not gin; `line` is counted from 1."""

  def __init__(self, message: str, line: int):
    super().__init__(message)
    self.line = line


class _Names(config_parser.ParserDelegate):
  """Keeps names as text: `names.Names` resolves them."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    scope, _, selector = scoped_configurable_name.rpartition("/")
    return values.Ref(scope, selector, evaluate)

  def macro(self, macro_name):
    return values.MacroRef(macro_name)


class _Parser(config_parser.ConfigParser):
  """gin's parser, which also takes `true`, `10k` and `/tmp/run`."""

  def __init__(self, text: str):
    self._depth = 0
    super().__init__(text, _Names())

  def parse_value(self) -> Any:
    if self._depth:
      return super().parse_value()
    start = self._current_token
    self._depth += 1
    try:
      value = super().parse_value()
      if self._current_token.type not in _LINE_ENDS:
        self._raise_syntax_error("Expected the end of the line.")
      return value
    except SyntaxError:
      bare = self._bare_line(start)
      if bare is None:
        raise
      return bare
    finally:
      self._depth -= 1

  def _bare_line(self, start: tokenize.TokenInfo) -> values.Bare | None:
    """Takes the rest of the line as text, or nothing if it is no such text."""
    row, column = start.start
    text = start.line[column:].split("#")[0].strip()
    if self._current_token.start[0] != row or not _BARE.fullmatch(text):
      return None
    while self._current_token.type not in _LINE_ENDS:
      self._advance_one_token()
    return values.Bare(text)

  def _maybe_parse_basic_type(self):
    token = self._current_token
    if token.type == tokenize.NAME and token.string not in _LITERAL_NAMES:
      self._advance()
      return True, values.Bare(token.string)
    return super()._maybe_parse_basic_type()


_LITERAL_NAMES = ("True", "False", "None")


def parse(text: str) -> Iterator[Statement]:
  """Yields the statements of gin text in order.

  Args:
    text: Contents of a file.

  Yields:
    Statements whose values are trees of `values`.

  Raises:
    GinSyntaxError: where the text stops being gin.
  """
  line = 1
  try:
    parser = _Parser(text)
    line = parser.current_token.start[0]
    for statement in parser:
      yield statement
      line = parser.current_token.start[0]
  except SyntaxError as error:
    message = str(error.args[0]) if error.args else "Cannot be read."
    location = error.args[1] if len(error.args) > 1 else None
    if location and location[1]:
      line = location[1]
    raise GinSyntaxError(_explain(message, text, line), line) from error
  except tokenize.TokenError as error:
    raise GinSyntaxError(
      f"{error.args[0]}: a bracket or a quote is not closed.", line
    ) from error


def _explain(message: str, text: str, line: int) -> str:
  """Puts the line beside gin's message, and a hint where one is known."""
  message = message.split("\n")[0].strip()
  lines = text.splitlines()
  source = lines[line - 1].strip() if 0 < line <= len(lines) else ""
  hint = ""
  value = source.partition("=")[2].strip()
  if source.startswith("include"):
    hint = " Put the path in quotes: include 'models/NAME.gin'."
  elif value and value[0] not in "[({@%'\"":
    hint = f" Put text in quotes: {source.partition('=')[0]}= {value!r}."
  return f"cannot read `{source}`: {message}{hint}"


def parse_flag(text: str) -> list[Statement]:
  """Parses one binding of the command line, `NAME=value`.

  Args:
    text: What follows `--gin.`, or a whole `--gin_bindings`.

  Returns:
    Its statements: one, unless the text has several lines.

  Raises:
    GinSyntaxError: if it is not gin and cannot be taken as plain text.
  """
  name, equals, value = text.partition("=")
  name, value = name.strip(), value.strip()
  try:
    return list(parse(text))
  except GinSyntaxError:
    if not (
      equals and _BINDING_NAME.fullmatch(name) and _BARE_FLAG.fullmatch(value)
    ):
      raise
  scope, selector, parameter = config_parser.parse_binding_key(name)
  location = config_parser.Location(None, 1, None, text)
  return [
    config_parser.BindingStatement(
      scope, selector, parameter, values.Bare(value), location
    )
  ]
