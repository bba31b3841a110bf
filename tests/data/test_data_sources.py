import gzip

import pytest

from t2tjax import data

VOCABULARY = data.ByteVocabulary()


def texts_of(source, split="train"):
  found = source.examples(
    split, VOCABULARY, ["inputs", "targets"], eos=True, texts=True
  )
  return [
    tuple(e.texts[f"{n}_pretokenized"] for n in ("inputs", "targets"))
    for e in found
  ]


def test_columns_and_templates_name_what_is_read(tmp_path):
  path = tmp_path / "data.csv"
  path.write_text('question,context,answer\nwho?,"a, b",me\nwhy?,c,so\n')
  source = data.CsvSource(
    path=str(path), inputs="q: {question} c: {context}", targets="answer"
  )
  assert texts_of(source) == [("q: who? c: a, b", "me"), ("q: why? c: c", "so")]


def test_splits_come_from_a_column_or_from_paths(tmp_path):
  path = tmp_path / "data.jsonl.gz"
  with gzip.open(path, "wt") as file:
    file.write('{"inputs": "a", "targets": "b", "split": "train"}\n')
    file.write('{"inputs": "c", "targets": "d", "split": "validation"}\n')
  source = data.JsonlSource(path=str(path), split_column="split")
  assert texts_of(source, "validation") == [("c", "d")]
  by_path = data.JsonlSource(path={"train": str(path)})
  assert len(texts_of(by_path)) == 2
  with pytest.raises(ValueError, match="JsonlSource.path"):
    texts_of(by_path, "test")


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ('{"inputs": "a"', "line 1 .* not JSON"),
    ('{"inputs": "a"}', "column 'targets' is missing"),
    ('["a"]', "not a JSON object"),
    ('{"inputs": "a", "targets": [1]}', "holds list"),
  ],
)
def test_bad_lines_are_named_without_showing_them(tmp_path, line, message):
  path = tmp_path / "data.jsonl"
  path.write_text(line + "\n")
  with pytest.raises(ValueError, match=message):
    texts_of(data.JsonlSource(path=str(path)))


def test_ragged_csv_names_the_line(tmp_path):
  path = tmp_path / "data.csv"
  path.write_text("inputs,targets\na,b\nc\n")
  with pytest.raises(ValueError, match="line 3"):
    texts_of(data.CsvSource(path=str(path)))


def test_no_matching_file_names_the_setting(tmp_path):
  with pytest.raises(ValueError, match="CsvSource.path"):
    texts_of(data.CsvSource(path=str(tmp_path / "*.csv")))
