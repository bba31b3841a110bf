"""Spans of personal data, exact and from outputs copied with mistakes."""

import functools

import pytest

from t2tjax.evaluation import metrics, pii, postprocessors

_SOURCE = "Ann Lee lives in Oak Street 5, mail a@b.org."
_TARGET = "[NAME] lives in [ADDRESS], mail [EMAIL]."
_GOLD = [(0, 7, "NAME"), (17, 29, "ADDRESS"), (36, 43, "EMAIL")]


def as_tuples(spans):
  return [(s.start, s.end, s.type) for s in spans]


def score(prediction, source=_SOURCE, target=_TARGET):
  return metrics.pii_redaction(
    [{"source": source, "text": target}], [prediction]
  )


def test_spans_of_an_exact_copy_are_the_masked_characters():
  assert as_tuples(pii.exact_spans(_SOURCE, _TARGET)) == _GOLD


def test_a_changed_word_means_no_exact_spans():
  changed = _TARGET.replace("lives", "live")
  assert pii.exact_spans(_SOURCE, changed) is None


@pytest.mark.parametrize("masked", ["[NAME][NAME]", "x [NAME]", "[NAME] x"])
def test_exact_spans_need_values_that_are_not_empty(masked):
  assert pii.exact_spans("x", masked) is None


def test_spans_survive_copying_mistakes_elsewhere():
  changed = _TARGET.replace("lives", "loves")
  assert as_tuples(pii.spans(_SOURCE, changed)) == _GOLD


def test_a_label_where_nothing_was_masked_is_an_empty_span():
  spans = pii.spans("call me now", "please call me [PHONE] now")
  assert as_tuples(spans) == [(7, 7, "PHONE")]


def test_the_target_itself_scores_perfectly():
  found = score(_TARGET)
  for name in ("exact_match", "span_f1", "copy_accuracy", "unaltered"):
    assert found[name] == 1.0
  assert found["leak_rate"] == 0.0
  assert found["span_f1/NAME"] == 1.0


def test_copying_the_input_leaks_everything():
  found = score(_SOURCE)
  assert found["leak_rate"] == 1.0
  assert found["span_f1"] == 0.0
  assert found["copy_accuracy"] == 1.0
  assert found["unaltered"] == 1.0


def test_counts_by_hand_for_a_half_right_output():
  # NAME right, the address only in part, the e-mail under another label.
  found = score("[NAME] lives in Oak [ADDRESS], mail [PHONE].")
  assert found["span_precision"] == pytest.approx(1 / 3)
  assert found["span_recall"] == pytest.approx(1 / 3)
  assert found["span_f1/NAME"] == 1.0
  assert found["span_f1/EMAIL"] == 0.0
  assert found["leak_rate"] == 0.0
  assert found["unaltered"] == 1.0


def test_copy_accuracy_is_the_share_of_words_kept():
  # Of lives in , mail . (five) the second and the last are gone.
  found = score("[NAME] lives [ADDRESS], mail [EMAIL]")
  assert found["copy_accuracy"] == pytest.approx(3 / 5)


def test_masking_too_much_is_no_alteration_but_another_word_is():
  assert score("[NAME], mail [EMAIL].")["unaltered"] == 1.0
  assert score(_TARGET.replace("mail", "post"))["unaltered"] == 0.0


def test_a_value_that_the_target_keeps_is_no_leak():
  source, target = "Mark, mark it: Mark!", "[NAME], mark it: Mark!"
  assert score(target, source, target)["leak_rate"] == 0.0
  assert score(source, source, target)["leak_rate"] == 1.0


def test_leaks_need_whole_words():
  source, target = "Ann has an Annex", "[NAME] has an Annex"
  assert score(target, source, target)["leak_rate"] == 0.0


def test_the_instruction_is_no_part_of_what_is_copied():
  postprocess = functools.partial(postprocessors.redaction, prefix="mask: ")
  example = {"inputs_pretokenized": b"mask: I am Ann"}
  target = postprocess(b"I am [NAME]", example=example, is_target=True)
  assert target == {"source": "I am Ann", "text": "I am [NAME]"}
  prediction = postprocess("I am [NAME]", example=example)
  assert metrics.pii_redaction([target], [prediction])["span_f1"] == 1.0


def test_an_empty_output_scores_zero_and_does_not_fail():
  found = score("")
  assert found["span_f1"] == found["copy_accuracy"] == 0.0
