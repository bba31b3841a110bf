"""The fine-tuning tasks of the mT5 paper, for mT5, umT5 and ByT5.

Tasks begin with `mt5_`, `umt5_` or `byt5_`: `xnli_*`, `paws*`, `tydiqa_*`,
`xquad_*`, `mlqa_*`, `ner_*`, one for each language, and mixtures of them:
`xnli_zeroshot`, `tydiqa`, `ner_multilingual` and so on. Formats and splits are
those of https://arxiv.org/abs/2010.11934.
"""

import functools

from t2tjax.evaluation import t5_metrics, t5_postprocessors
from t2tjax.tasks.t5 import formats, registering

XNLI = "ar bg de el en es fr hi ru sw th tr ur vi zh".split()
PAWS = "de en es fr ja ko zh".split()
TYDIQA = "ar bn en fi id ko ru sw te".split()
XQUAD = "ar de el es hi ru th tr vi zh".split()
MLQA = "ar de en es hi vi zh".split()
NER = (
  "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr "
  "ms my nl pt ru sw ta te th tl tr ur vi yo zh"
).split()

_DEV_TEST = ["validation", "test"]
_QA = functools.partial(
  formats.answer_from_context, punctuation=formats.MT5_PUNCTUATION
)
_PAWS_LABELS = ["different_meaning", "paraphrase"]


def _without_english(languages: list[str]) -> list[str]:
  return [language for language in languages if language != "en"]


def _mixture(family: registering.Family, name: str, *tasks: str) -> None:
  registering.add_mixture(
    family.prefix + name, [family.prefix + task for task in tasks]
  )


def _add_xnli(family: registering.Family) -> None:
  def add(name: str, dataset: str, splits: list[str], steps: list) -> None:
    family.add(
      name, dataset, steps, splits=splits, metric_fns=[t5_metrics.accuracy]
    )

  def step(*languages: str) -> list:
    return [functools.partial(formats.entailment_in, languages=list(languages))]

  add("xnli_train", "multi_nli:1.1.0", ["train"], [formats.entailment])
  add("xnli_dev_test.all_langs", "xnli:1.1.0", _DEV_TEST, step(*XNLI))
  for language in XNLI:
    add(f"xnli_dev_test.{language}", "xnli:1.1.0", _DEV_TEST, step(language))
  for language in _without_english(XNLI):
    add(
      f"xnli_translate_train.{language}",
      "xtreme_xnli:1.1.0",
      ["train"],
      step(language),
    )
  evaluated = [f"xnli_dev_test.{x}" for x in ("all_langs", *XNLI)]
  translated = [f"xnli_translate_train.{x}" for x in _without_english(XNLI)]
  _mixture(family, "xnli_zeroshot", "xnli_train", *evaluated)
  _mixture(
    family, "xnli_translate_train", "xnli_train", *evaluated, *translated
  )


def _add_paws(family: registering.Family) -> None:
  def add(name: str, dataset: str, splits: list[str]) -> str:
    family.add(
      name,
      f"{dataset}:1.0.0",
      [
        functools.partial(
          formats.classify,
          task="paws",
          fields=["sentence1", "sentence2"],
          labels=_PAWS_LABELS,
        )
      ],
      splits=splits,
      postprocess_fn=functools.partial(
        t5_postprocessors.class_id, labels=_PAWS_LABELS
      ),
      metric_fns=[t5_metrics.accuracy],
    )
    return name

  english = add("paws", "paws_x_wiki/en", ["train"])
  evaluated = [
    add(f"pawsx_dev_test.{x}", f"paws_x_wiki/{x}", _DEV_TEST) for x in PAWS
  ]
  original = [
    add(f"pawsx_translate_train_original.{x}", f"paws_x_wiki/{x}", ["train"])
    for x in PAWS
  ]
  translated = [
    add(f"pawsx_translate_train.{x}", f"xtreme_pawsx/{x}", ["train"])
    for x in _without_english(PAWS)
  ]
  _mixture(family, "pawsx_zeroshot", english, *evaluated)
  _mixture(family, "pawsx_translate_train", english, *translated, *evaluated)
  _mixture(family, "pawsx_translate_train_original", *original, *evaluated)


def _add_question_answering(family: registering.Family) -> None:
  def add(name, dataset, splits, steps=(), metric=t5_metrics.squad) -> str:
    family.add(
      name,
      dataset,
      [_QA, *steps],
      splits=splits,
      postprocess_fn=t5_postprocessors.answers,
      metric_fns=[metric],
    )
    return name

  tydiqa = functools.partial(add, dataset="tydi_qa/goldp:3.0.0")
  everything = tydiqa("tydiqa_train_dev", splits=["train", "validation"])
  english = tydiqa(
    "tydiqa_train.en",
    splits=["train"],
    steps=[functools.partial(formats.of_language, language="english")],
  )
  evaluated = [
    tydiqa(f"tydiqa_dev.{x}", splits={"validation": f"validation-{x}"})
    for x in TYDIQA
  ]
  translated = [
    tydiqa(
      f"tydiqa_translate_train.{x}", splits={"train": f"translate-train-{x}"}
    )
    for x in _without_english(TYDIQA)
  ]
  _mixture(family, "tydiqa", everything, *evaluated)
  _mixture(family, "tydiqa_zeroshot", english, *evaluated)
  _mixture(family, "tydiqa_translate_train", english, *translated, *evaluated)

  squad = add("squad_train_dev", "squad/v1.1:3.0.0", ["train", "validation"])
  translated = [
    add(
      f"xquad_translate_train_dev.{x}",
      f"xquad/{x}:3.0.0",
      {"train": "translate-train", "validation": "translate-dev"},
    )
    for x in XQUAD
  ]
  evaluated = [
    add(f"xquad_test.{x}", f"xquad/{x}:3.0.0", ["test"]) for x in (*XQUAD, "en")
  ]
  _mixture(family, "xquad_zeroshot", squad, *evaluated)
  _mixture(family, "xquad_translate_train", *translated, squad, *evaluated)

  evaluated = [
    add(
      f"mlqa_dev_test.{x}",
      f"mlqa/{x}:1.0.0",
      _DEV_TEST,
      metric=functools.partial(t5_metrics.mlqa, language=x),
    )
    for x in MLQA
  ]
  translated = [
    f"xquad_translate_train_dev.{x}" for x in _without_english(MLQA)
  ]
  _mixture(family, "mlqa_zeroshot", squad, *evaluated)
  _mixture(family, "mlqa_translate_train", *translated, squad, *evaluated)


def _add_entities(family: registering.Family) -> None:
  for name, splits in (("train", ["train"]), ("eval", _DEV_TEST)):
    for language in NER:
      family.add(
        f"ner_{name}.{language}",
        f"wikiann/{language}:1.0.0",
        [formats.tag_entities],
        splits=splits,
        metric_fns=[t5_metrics.span_f1],
      )
  evaluated = [f"ner_eval.{x}" for x in NER]
  _mixture(family, "ner_zeroshot", "ner_train.en", *evaluated)
  _mixture(
    family, "ner_multilingual", *(f"ner_train.{x}" for x in NER), *evaluated
  )


for _family in (registering.MT5, registering.UMT5, registering.BYT5):
  _add_xnli(_family)
  _add_paws(_family)
  _add_question_answering(_family)
  _add_entities(_family)
