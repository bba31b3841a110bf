"""Pretraining corpora: C4, mC4, Wikipedia and the Pile under an objective.

Tasks: `c4_v220_span_corruption` (as T5 1.0 and 1.1 are trained),
`c4_v220_prefix_lm`, `c4[_<config>]_v020_unsupervised`,
`wikipedia_20190301.en_v003_unsupervised`; `mc4.<language>`,
`umt5_mc4.<language>` and `byt5_mc4.<language>` with a mixture of each;
`the_pile_span_corruption` and `wikipedia_dummy` of T5X's GPU examples.
"""

import functools

import seqio

from t2tjax.data import objectives
from t2tjax.tasks.t5 import registering

_T5 = registering.T5
_SPAN_CORRUPTION = objectives.SpanCorruption(
  noise_density=0.15, mean_span_length=3.0
)
# A prefix has at least one token.
_PREFIX_LM = objectives.PrefixLM(min_fraction=1e-6)

_T5.add_corpus("c4_v220_span_corruption", "c4/en:2.2.0", _SPAN_CORRUPTION)
_T5.add_corpus("c4_v220_prefix_lm", "c4/en:2.2.0", _PREFIX_LM)
for _suffix, _config in (
  ("", "en"),
  ("_noclean", "en.noclean"),
  ("_realnewslike", "realnewslike"),
  ("_webtextlike", "webtextlike"),
):
  _T5.add_corpus(
    f"c4{_suffix}_v020_unsupervised", f"c4/{_config}:2.2.0", _SPAN_CORRUPTION
  )
for _name, _dataset in {
  "wikipedia_20190301.en_v003_unsupervised": "wikipedia/20190301.en:1.0.0",
  "wikipedia_dummy": "wikipedia/20190301.als:1.0.0",
  "the_pile_span_corruption": "ThePile:1.0.0",
}.items():
  _T5.add_corpus(_name, _dataset, _SPAN_CORRUPTION)

MC4_LANGUAGES = (
  "af am ar az be bg bg-Latn bn ca ceb co cs cy da de el el-Latn en eo es et "
  "eu fa fi fil fr fy ga gd gl gu ha haw hi hi-Latn hmn ht hu hy id ig is it "
  "iw ja ja-Latn jv ka kk km kn ko ku ky la lb lo lt lv mg mi mk ml mn mr ms "
  "mt my ne nl no ny pa pl ps pt ro ru ru-Latn sd si sk sl sm sn so sq sr st "
  "su sv sw ta te tg th tr uk ur uz vi xh yi yo zh zh-Latn zu"
).split()

# Languages are drawn by the third root, about, of their examples.
_RATE = functools.partial(seqio.mixing_rate_num_examples, temperature=1 / 0.3)
for _family, _name, _span_length, _version in (
  # Tasks of mT5 have names without its prefix here.
  (registering.Family("", registering.MT5.vocabulary), "mc4", 3.0, "3.0.1"),
  (registering.UMT5, "mc4", 3.0, "3.1.0"),
  (registering.BYT5, "mc4", 20.0, "3.0.1"),
):
  _languages = [
    _family.add_corpus(
      f"{_name}.{language.replace('-', '_')}",
      f"c4/multilingual:{_version}",
      objectives.SpanCorruption(
        noise_density=0.15, mean_span_length=_span_length
      ),
      splits={"train": language, "validation": f"{language}-validation"},
    )
    for language in MC4_LANGUAGES
  ]
  seqio.MixtureRegistry.add(
    _family.prefix + _name, _languages, default_rate=_RATE
  )
