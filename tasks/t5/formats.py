"""Text formats of T5, mT5 and closed-book QA, as seqio preprocessors.

From the features of TFDS datasets to `inputs` and `targets`, to the character
as published: https://arxiv.org/abs/1910.10683 (appendix D),
https://arxiv.org/abs/2010.11934 and https://arxiv.org/abs/2002.08910. What
evaluation needs besides stays in the example. Used by this package only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

Example = Mapping[str, Any]

# The target where a test set hides it.
UNKNOWN = "<unk>"


def _single_spaces(text: tf.Tensor) -> tf.Tensor:
  return tf.strings.regex_replace(text, r"\s+", " ")


def _join(*parts: Any) -> tf.Tensor:
  return tf.strings.join(parts, separator=" ")


# ---- Translation and summarization -----------------------------------------


@seqio.map_over_dataset
def translate(
  example: Example, source: str, target: str, names: Mapping[str, str]
) -> dict[str, tf.Tensor]:
  """Makes `translate English to German: <text>` of two languages' features."""
  prefix = f"translate {names[source]} to {names[target]}:"
  return {
    "inputs": _join(prefix, example[source]),
    "targets": example[target],
  }


@seqio.map_over_dataset
def summarize(
  example: Example, document: str, summary: str
) -> dict[str, tf.Tensor]:
  """Makes `summarize: <document>`; the arguments are names of features."""
  return {
    "inputs": _join("summarize:", example[document]),
    "targets": example[summary],
  }


# ---- GLUE and SuperGLUE ----------------------------------------------------


def _fields(example: Example, task: str, fields: Sequence[str]) -> tf.Tensor:
  """Returns `task field: text field: text`."""
  parts = [part for name in fields for part in (f"{name}:", example[name])]
  return _join(task, *parts)


@seqio.map_over_dataset
def classify(
  example: Example,
  task: str,
  fields: Sequence[str],
  labels: Sequence[str],
  renamed: Mapping[str, str] | None = None,
) -> dict[str, tf.Tensor]:
  """Makes `mnli hypothesis: <text> premise: <text>` and the class's name.

  Args:
    example: text features, and `label`: the class's number, or -1.
    task: first word of the inputs.
    fields: text features in their order.
    labels: names of the classes.
    renamed: the feature that a field is read from, where its name is another.
  """
  texts = {name: example[(renamed or {}).get(name, name)] for name in fields}
  label = tf.cast(example["label"], tf.int32)
  made = {
    "inputs": _fields(texts, task, fields),
    # The class -1 is that of hidden labels.
    "targets": tf.gather([UNKNOWN, *labels], label + 1),
  }
  return made | ({"idx": example["idx"]} if "idx" in example else {})


@seqio.map_over_dataset
def similarity(example: Example) -> dict[str, tf.Tensor]:
  """Makes STS-B: the score, rounded to fifths, is spelled as `3.8`."""
  fifths = tf.round(example["label"] * 5) / 5
  return {
    "inputs": _fields(example, "stsb", ("sentence1", "sentence2")),
    "targets": tf.strings.as_string(fifths, precision=1),
    "idx": example["idx"],
  }


@seqio.map_over_dataset
def multirc(
  example: Example, labels: Sequence[str] = ("False", "True")
) -> dict[str, tf.Tensor]:
  """Makes MultiRC: one answer option of a question, without HTML."""
  inputs = _fields(example, "multirc", ("question", "answer", "paragraph"))
  inputs = tf.strings.regex_replace(inputs, "<br>", " ")
  label = tf.cast(example["label"], tf.int32)
  return {
    "inputs": tf.strings.regex_replace(inputs, "</?b>", ""),
    "targets": tf.gather([UNKNOWN, *labels], label + 1),
    **{f"idx/{name}": number for name, number in example["idx"].items()},
  }


def record(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Makes ReCoRD: an example for each right entity, with all of them."""

  def one_per_answer(example: Example) -> tf.data.Dataset:
    passage = tf.strings.regex_replace(
      example["passage"], "([.?!\"'])\n@highlight\n", r"\1 "
    )
    passage = tf.strings.regex_replace(passage, "\n@highlight\n", ". ")
    entities = tf.strings.reduce_join(example["entities"], separator=", ")
    texts = {
      "query": example["query"],
      "entities": entities,
      "passage": passage,
    }
    shared = {
      "inputs": _fields(texts, "record", tuple(texts)),
      "answers": example["answers"],
      **{f"idx/{name}": number for name, number in example["idx"].items()},
    }
    hidden = tf.size(example["answers"]) == 0
    targets = tf.cond(
      hidden, lambda: tf.constant([UNKNOWN]), lambda: example["answers"]
    )
    return tf.data.Dataset.from_tensor_slices(targets).map(
      lambda answer: {**shared, "targets": answer}
    )

  return dataset.flat_map(one_per_answer)


# ---- Pronouns --------------------------------------------------------------


def mark_pronoun(text: str, pronoun: str, index: int) -> str:
  """Returns the text with asterisks around the pronoun at word `index`.

  In a few examples punctuation sticks to the pronoun, which then stands apart,
  or the index is that of a word beside it.
  """
  words = text.split(" ")
  by_distance = sorted(range(len(words)), key=lambda place: abs(place - index))
  for place in by_distance:
    rest = words[place].removeprefix(pronoun)
    if words[place].startswith(pronoun) and not rest[:1].isalpha():
      words[place] = f"*{pronoun}* {rest}".rstrip()
      return " ".join(words)
  raise ValueError(f"{text!r} has no word {pronoun!r}")


def winograd(dataset: tf.data.Dataset, correct_only: bool) -> tf.data.Dataset:
  """Makes WSC: `wsc: <text with *pronoun*>` to the candidate referent.

  The candidate is the target even where it is wrong, which `label` says; train
  with `correct_only`.
  """

  def marked(text: bytes, pronoun: bytes, index: int) -> bytes:
    return mark_pronoun(text.decode(), pronoun.decode(), int(index)).encode()

  @seqio.map_over_dataset
  def to_texts(example: Example) -> dict[str, tf.Tensor]:
    text = tf.numpy_function(
      marked,
      (example["text"], example["span2_text"], example["span2_index"]),
      tf.string,
      stateful=False,
    )
    return {
      "inputs": _join("wsc:", tf.ensure_shape(text, ())),
      "targets": example["span1_text"],
      "label": example["label"],
      "idx": example["idx"],
    }

  if correct_only:
    dataset = dataset.filter(lambda example: example["label"] == 1)
  return to_texts(dataset)


@seqio.map_over_dataset
def definite_pronoun(example: Example) -> dict[str, tf.Tensor]:
  """Makes Definite Pronoun Resolution as `winograd` does; all are correct."""
  text = tf.strings.regex_replace(
    example["sentence"],
    tf.strings.join([" (", example["pronoun"], r")([ .,])"]),
    r" *\1*\2",
    replace_global=False,
  )
  return {
    "inputs": _join("wsc:", text),
    "targets": example["candidates"][example["label"]],
  }


# ---- Question answering ----------------------------------------------------


@seqio.map_over_dataset
def answer_from_context(
  example: Example, punctuation: str = "[[:punct:]]", with_context: bool = True
) -> dict[str, tf.Tensor]:
  """Makes SQuAD: `question: <question> context: <passage>`.

  Args:
    example: `question`, `context`, `id` and `answers` with `text`, of which
      the first is the target.
    punctuation: a character class; spaces are put around what it matches.
    with_context: whether the passage is given.
  """

  def spaced(text: tf.Tensor) -> tf.Tensor:
    text = tf.strings.regex_replace(text, f"({punctuation})", r" \1 ")
    return _single_spaces(text)

  question, context = spaced(example["question"]), spaced(example["context"])
  answers = spaced(example["answers"]["text"])
  if with_context:
    inputs = _join("question:", question, "context:", context)
  else:
    inputs = _join("squad trivia question:", question)
  return {
    "inputs": _single_spaces(inputs),
    "targets": answers[0],
    "id": example["id"],
    "question": question,
    "context": context,
    "answers": answers,
  }


# What mT5 puts spaces around: anything but letters, accents, digits, `_`.
MT5_PUNCTUATION = r"[^_\s\p{N}\p{L}\p{M}]"


def of_language(dataset: tf.data.Dataset, language: str) -> tf.data.Dataset:
  """Keeps the TyDi QA examples whose id begins with `language`."""
  return dataset.filter(
    lambda example: tf.strings.regex_full_match(example["id"], f"{language}-.*")
  )


@seqio.map_over_dataset
def answer_from_memory(
  example: Example, prefix: str, answers: str = "answers"
) -> dict[str, tf.Tensor]:
  """Makes closed-book QA: `<prefix>: <question>` to the first of `answers`."""
  return {
    "inputs": _join(f"{prefix}:", example["question"]),
    "targets": example[answers][0],
    "answers": example[answers],
  }


@seqio.map_over_dataset
def trivia_from_memory(example: Example) -> dict[str, tf.Tensor]:
  """Makes closed-book TriviaQA, all of whose aliases are accepted."""
  return {
    "inputs": _join("trivia_qa question:", example["question"]),
    "targets": example["answer"]["value"],
    "answers": example["answer"]["aliases"],
  }


def natural_questions(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Makes Natural Questions without its page: `answer: x answer: y`.

  Questions that no annotator answered shortly, or by yes or no, are left out.
  """

  @seqio.map_over_dataset
  def to_texts(example: Example) -> dict[str, tf.Tensor]:
    yes_no = tf.cast(example["annotations"]["yes_no_answer"], tf.int32)
    said = tf.gather(["no", "yes"], tf.boolean_mask(yes_no, yes_no >= 0))
    short = example["annotations"]["short_answers"]["text"]
    answers = tf.concat([said, short.flat_values], axis=0)
    return {
      "inputs": _join("nq question:", example["question"]["text"]),
      "targets": tf.strings.reduce_join(
        tf.strings.join(["answer: ", answers]), separator=" "
      ),
      "short_answers/values": short.flat_values,
      "short_answers/row_starts": short.row_starts(),
      "yes_no_answers": yes_no,
    }

  return to_texts(dataset).filter(
    lambda example: tf.strings.length(example["targets"]) > 0
  )


# ---- Multilingual ----------------------------------------------------------


def _entailment(premise, hypothesis, label) -> dict[str, tf.Tensor]:
  return {
    "inputs": _join("xnli: premise:", premise, "hypothesis:", hypothesis),
    "targets": tf.strings.as_string(label),
  }


@seqio.map_over_dataset
def entailment(example: Example) -> dict[str, tf.Tensor]:
  """Makes MultiNLI in XNLI's format: the target is the class's number."""
  return _entailment(
    example["premise"], example["hypothesis"], example["label"]
  )


def entailment_in(
  dataset: tf.data.Dataset, languages: Sequence[str]
) -> tf.data.Dataset:
  """Makes XNLI: an example for each of the languages it is there in."""

  def one_per_language(example: Example) -> tf.data.Dataset:
    there = tf.equal(
      example["hypothesis"]["language"], tf.constant(languages)[:, None]
    )
    premises = tf.stack([example["premise"][name] for name in languages])
    places = tf.argmax(tf.cast(there, tf.int32), axis=1)
    hypotheses = tf.gather(example["hypothesis"]["translation"], places)
    mask = tf.reduce_any(there, axis=1)
    kept = (
      tf.boolean_mask(premises, mask),
      tf.boolean_mask(hypotheses, mask),
    )
    return tf.data.Dataset.from_tensor_slices(kept).map(
      lambda premise, hypothesis: _entailment(
        premise, hypothesis, example["label"]
      )
    )

  return dataset.flat_map(one_per_language)


@seqio.map_over_dataset
def tag_entities(example: Example) -> dict[str, tf.Tensor]:
  """Makes WikiAnn: `tag: <words>` to `PER: <name> $$ ORG: <name>`."""
  return {
    "inputs": _join(
      "tag:", tf.strings.reduce_join(example["tokens"], separator=" ")
    ),
    "targets": tf.strings.reduce_join(example["spans"], separator=" $$ "),
  }
