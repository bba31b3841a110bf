"""The command line of every command: flags to a checked configuration.

Called by the `__main__` blocks of run modules: `cli.main(train)`. Imports
neither JAX nor TensorFlow; the run function's own module may have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import inspect
import re
import sys
import textwrap
from typing import Any, NoReturn

from t2tjax.config import (
  coercion,
  dialects,
  errors,
  files,
  loader,
  parameters,
  resolved,
)
from t2tjax.config.reach import INJECTED

_USER_ERROR = 2
_EPILOG = """\
Bindings: --gin.MODEL_DIR=/tmp/run sets a macro, --gin.train.total_steps=100 a
parameter, --gin.train/data.DatasetConfig.batch_size=8 a parameter in a scope.
Files are looked up in the working directory, --gin_search_paths and the
shipped templates. A gin file can import and call Python: it is code."""


class _Help(Exception):
  """The user asked what the command does."""


class _Parser(argparse.ArgumentParser):
  """An argument parser whose mistakes are told like any other."""

  def error(self, message: str) -> NoReturn:
    raise errors.ConfigError(message)


def main(
  run_function: Callable[..., Any], argv: Sequence[str] | None = None
) -> Any:
  """Runs a command: reads flags and gin files, then calls the function.

  A mistake of the user (any `ValueError`) is printed as one message and ends
  the process with status 2; `--traceback` shows where it came from.

  Args:
    run_function: Keyword-only function. `dry_run` and `run_record` are passed
      to it if it has parameters of these names.
    argv: Command line with the program's name first; `sys.argv` by default.

  Returns:
    What the function returns.
  """
  argv = list(sys.argv if argv is None else argv)
  traceback = "--traceback" in argv[1:]
  flags = argparse.Namespace(gin_file=[])
  try:
    flags = _parse(run_function, argv)
    if flags.tfds_data_dir or flags.seqio_additional_cache_dirs:
      from t2tjax.data import seqio_dirs

      seqio_dirs.set_dirs(
        flags.tfds_data_dir, flags.seqio_additional_cache_dirs
      )
    config = loader.load(
      run_function,
      flags.gin_file,
      flags.gin_bindings,
      search_paths=flags.gin_search_paths,
      allow=flags.gin_allow,
      t5x_compat=flags.t5x_compat,
      argv=argv,
    )
    if flags.dry_run:
      config.show()
    return config.run(dry_run=flags.dry_run)
  except _Help:
    print(_help_text(run_function))
    return None
  except ValueError as error:
    if traceback:
      raise
    print(f"error: {_plain(error)}", file=sys.stderr)
    if not isinstance(error, errors.ConfigError):
      print("(--traceback shows where it was raised)", file=sys.stderr)
    elif not flags.gin_file:
      print("No --gin_file was given; --help lists some.", file=sys.stderr)
    sys.exit(_USER_ERROR)


def _list(text: str) -> list[str]:
  return [part.strip() for part in text.split(",") if part.strip()]


def _parser(run_function: Callable[..., Any]) -> _Parser:
  name = _command(run_function)
  parser = _Parser(
    prog=name,
    usage=f"{name} --gin_file=FILE [--gin.NAME=VALUE ...] [flags]",
    epilog=_EPILOG,
    add_help=False,
    allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--gin_file",
    action="append",
    default=[],
    metavar="FILE",
    help="gin file; repeat it, a later one overrides an earlier one",
  )
  add(
    "--gin_bindings",
    action="append",
    default=[],
    metavar="NAME=VALUE",
    help="binding, applied after the files; --gin.NAME=VALUE is the same",
  )
  add(
    "--gin_search_paths",
    type=_list,
    default=[],
    metavar="DIR,...",
    help="directories to look for gin files in",
  )
  add(
    "--gin_allow",
    type=_list,
    metavar="PREFIX,...",
    help="modules that gin files may import and configure; default: all",
  )
  add(
    "--t5x_compat",
    choices=dialects.MODES,
    default="auto",
    help="whether gin files are T5X's: 'auto' looks at what they import, "
    "'force' takes them as T5X's, 'off' leaves `t5x` to Python",
  )
  add(
    "--tfds_data_dir",
    metavar="DIR",
    help="where the TFDS datasets of tasks lie; default: TFDS_DATA_DIR",
  )
  add(
    "--seqio_additional_cache_dirs",
    type=_list,
    default=[],
    metavar="DIR,...",
    help="folders of tasks that seqio has cached",
  )
  add(
    "--dry_run",
    action="store_true",
    help="show the resolved configuration and the plan, then stop",
  )
  add(
    "--traceback",
    action="store_true",
    help="show where in the code an error was raised",
  )
  add("--help", "-h", action="store_true", help="show this message")
  return parser


def _parse(
  run_function: Callable[..., Any], argv: Sequence[str]
) -> argparse.Namespace:
  rewritten = []
  for argument in argv[1:]:
    if not argument.startswith("--gin."):
      rewritten.append(argument)
    elif "=" in argument:
      rewritten.append("--gin_bindings=" + argument.removeprefix("--gin."))
    else:
      raise errors.ConfigError(f"{argument}: write {argument}=VALUE")
  parser = _parser(run_function)
  flags, unknown = parser.parse_known_args(rewritten)
  if flags.help:
    raise _Help
  if unknown:
    raise errors.ConfigError(
      "\n".join(_explain_unknown(argument, parser) for argument in unknown)
    )
  return flags


def _explain_unknown(argument: str, parser: _Parser) -> str:
  name = argument.split("=")[0]
  known = [f for action in parser._actions for f in action.option_strings]
  hint = errors.did_you_mean(name, known)
  if not hint and re.fullmatch(r"--[A-Z][A-Z0-9_]*=.*", argument):
    hint = f" Write --gin.{argument[2:]}."
  if not argument.startswith("-"):
    hint = " A value with spaces needs quotes in the shell."
    if argument.endswith(".gin"):
      hint = f" Write --gin_file={argument}."
  return f"unknown argument {argument}.{hint}"


def _command(run_function: Callable[..., Any]) -> str:
  spec = getattr(sys.modules.get("__main__"), "__spec__", None)
  module = spec.name if spec else run_function.__module__
  return f"python -m {module.removesuffix('.__main__')}"


def _help_text(run_function: Callable[..., Any]) -> str:
  """Flags, then the parameters of the run function from its docstring."""
  doc = inspect.getdoc(run_function) or ""
  summary, arguments = _split_docstring(doc)
  lines = [summary, "", _parser(run_function).format_help(), "Parameters:"]
  for name, parameter in parameters.of(run_function).by_name.items():
    if name in INJECTED:
      continue
    default = (
      "required"
      if parameter.required
      else f"default {resolved.default_text(parameter)}"
    )
    type_name = coercion.type_name(parameter.annotation)
    lines.append(f"  {run_function.__name__}.{name}: {type_name}, {default}")
    if name in arguments:
      indent = " " * 6
      lines.append(
        textwrap.fill(
          arguments[name], 79, initial_indent=indent, subsequent_indent=indent
        )
      )
  shipped = [f for f in files.shipped_files() if f.startswith("recipes/")]
  if shipped:
    lines += ["", "Shipped recipes: " + ", ".join(shipped)]
  return "\n".join(lines)


def _split_docstring(doc: str) -> tuple[str, dict[str, str]]:
  """Splits a Google docstring into its text and its arguments."""
  summary = re.split(r"^(?:Args|Returns|Raises|Yields):$", doc, flags=re.M)[0]
  section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", doc, flags=re.M)
  found: dict[str, str] = {}
  lines = section.group(1).splitlines() if section else []
  indent = " " * (len(lines[0]) - len(lines[0].lstrip())) if lines else ""
  name = ""
  for line in lines:
    start = re.match(rf"{indent}(\w+)(?: \([^)]*\))?: (.*)$", line)
    if start:
      name = start.group(1)
      found[name] = start.group(2)
    elif name:
      found[name] += " " + line.strip()
  return summary.strip(), found


def _plain(error: BaseException) -> str:
  """Makes gin's notes on the call chain readable."""
  note = re.compile(r"\n  In call to configurable '(\w+)' \(.*?\)(?=\n|$| in)")
  return note.sub(r"\n  in @\1()", str(error))
