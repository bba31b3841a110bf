"""A TFDS example of each T5 task and the texts it must become.

Inputs and targets marked D are those of the appendix of Raffel et al. 2020
(https://arxiv.org/abs/1910.10683), where long ones are shortened by us.
"""

import numpy as np

_QUESTION = {
  "id": "5733be284776f41900661182",
  "question": "What does increased oxygen concentrations in the patient's "
  "lungs displace?",
  "context": "Hyperbaric (high-pressure) medicine uses special oxygen "
  "chambers. Increased O 2 concentration in the lungs helps to displace "
  "carbon monoxide from the heme group.",
  "answers": {
    "text": ["carbon monoxide", "carbon monoxide (CO)"],
    "answer_start": np.array([109, 109], np.int32),
  },
}
_TYDI_QUESTION = {
  **_QUESTION,
  "id": "finnish-42-0",
  "question": "Où est né François_1?",
  "context": "François est né à l'été, 1821.",
  "answers": {"text": ["à l'été"], "answer_start": np.array([16], np.int32)},
}
_RECORD = {
  "passage": '(CNN) A passage.\n@highlight\nIt has a "highlight"\n'
  "@highlight\nNo full stop\n@highlight\nThe end",
  "query": "@placeholder wrote it.",
  "entities": ["CNN", "Raffel", "Shazeer"],
  "answers": ["Raffel", "Shazeer"],
  "idx": {"passage": 7, "query": 11},
}
_RECORD_INPUTS = (
  "record query: @placeholder wrote it. entities: CNN, Raffel, Shazeer "
  'passage: (CNN) A passage. It has a "highlight" No full stop. The end'
)
_WSC = {
  "text": "Mitchell asked Tom if he could lend some money.",
  "span1_text": "Tom",
  "span1_index": 2,
  "span2_text": "he",
  "span2_index": 4,
  "label": 1,
  "idx": 3,
}
_XNLI = {
  "premise": {"de": "Es regnet.", "en": "It rains.", "ar": "?"},
  "hypothesis": {
    "language": ["ar", "de", "en"],
    "translation": ["!", "Es ist nass.", "It is wet."],
  },
  "label": 0,
}

# Task -> (example, expected (inputs, targets) of all that it becomes).
EXAMPLES = {
  # D.1
  "glue_cola_v002": (
    {"sentence": "John made Bill master of himself.", "label": 1, "idx": 0},
    [("cola sentence: John made Bill master of himself.", "acceptable")],
  ),
  # D.2
  "glue_rte_v002": (
    {
      "sentence1": "A smaller proportion of Yugoslavia’s Italians were "
      "settled in Slovenia.",
      "sentence2": "Slovenia has 1,997 inhabitants.",
      "label": 1,
      "idx": 0,
    },
    [
      (
        "rte sentence1: A smaller proportion of Yugoslavia’s Italians were "
        "settled in Slovenia. sentence2: Slovenia has 1,997 inhabitants.",
        "not_entailment",
      )
    ],
  ),
  # D.3
  "glue_mnli_v002": (
    {
      "hypothesis": "The St. Louis Cardinals have always won.",
      "premise": "yeah well losing is i mean i’m i’m originally from Saint "
      "Louis and Saint Louis Cardinals when they were there were uh a mostly "
      "a losing team but",
      "label": 2,
      "idx": 0,
    },
    [
      (
        "mnli hypothesis: The St. Louis Cardinals have always won. premise: "
        "yeah well losing is i mean i’m i’m originally from Saint Louis and "
        "Saint Louis Cardinals when they were there were uh a mostly a losing "
        "team but",
        "contradiction",
      )
    ],
  ),
  # D.4
  "glue_mrpc_v002": (
    {
      "sentence1": "We acted because we saw the existing evidence in a new "
      "light , through the prism of our experience on 11 September , Rumsfeld "
      "said .",
      "sentence2": "Rather , the US acted because the administration saw it .",
      "label": 1,
      "idx": 5,
    },
    [
      (
        "mrpc sentence1: We acted because we saw the existing evidence in a "
        "new light , through the prism of our experience on 11 September , "
        "Rumsfeld said . sentence2: Rather , the US acted because the "
        "administration saw it .",
        "equivalent",
      )
    ],
  ),
  # D.5
  "glue_qnli_v002": (
    {
      "question": "Where did Jebe die?",
      "sentence": "Genghis Khan recalled Subutai back to Mongolia soon "
      "afterwards, and Jebe died on the road back to Samarkand.",
      "label": 0,
      "idx": 1,
    },
    [
      (
        "qnli question: Where did Jebe die? sentence: Genghis Khan recalled "
        "Subutai back to Mongolia soon afterwards, and Jebe died on the road "
        "back to Samarkand.",
        "entailment",
      )
    ],
  ),
  # D.6
  "glue_qqp_v002": (
    {
      "question1": "What attributes would have made you highly desirable in "
      "ancient Rome?",
      "question2": "How I GET OPPERTINUTY TO JOIN IT COMPANY AS A FRESHER?",
      "label": 0,
      "idx": 1,
    },
    [
      (
        "qqp question1: What attributes would have made you highly desirable "
        "in ancient Rome? question2: How I GET OPPERTINUTY TO JOIN IT COMPANY "
        "AS A FRESHER?",
        "not_duplicate",
      )
    ],
  ),
  # D.7
  "glue_sst2_v002": (
    {
      "sentence": "it confirms fincher ’s status as a film maker who artfully "
      "bends technical know-how to the service of psychological insight . ",
      "label": 1,
      "idx": 1,
    },
    [
      (
        "sst2 sentence: it confirms fincher ’s status as a film maker who "
        "artfully bends technical know-how to the service of psychological "
        "insight . ",
        "positive",
      )
    ],
  ),
  # D.8
  "glue_stsb_v002": (
    {
      "sentence1": "Representatives for Puretunes could not immediately be "
      "reached for comment Wednesday.",
      "sentence2": "Puretunes representatives could not be located Thursday to "
      "comment on the suit.",
      "label": np.float32(3.25),
      "idx": 1,
    },
    [
      (
        "stsb sentence1: Representatives for Puretunes could not immediately "
        "be reached for comment Wednesday. sentence2: Puretunes "
        "representatives could not be located Thursday to comment on the suit.",
        "3.2",
      )
    ],
  ),
  "glue_wnli_v002": (
    {
      "sentence1": "It fell.",
      "sentence2": "The cup fell.",
      "label": 0,
      "idx": 1,
    },
    [
      (
        "wnli sentence1: It fell. sentence2: The cup fell.",
        "not_entailment",
      )
    ],
  ),
  # The labels of test sets are hidden.
  "glue_ax_v002": (
    {"hypothesis": "It is.", "premise": "It was.", "label": -1, "idx": 1},
    [("mnli hypothesis: It is. premise: It was.", "<unk>")],
  ),
  # D.9
  "super_glue_cb_v102": (
    {
      "hypothesis": "Valence was helping",
      "premise": "Valence the void-brain, Valence the virtuous valet. Was he "
      "helping?",
      "label": 1,
      "idx": 1,
    },
    [
      (
        "cb hypothesis: Valence was helping premise: Valence the void-brain, "
        "Valence the virtuous valet. Was he helping?",
        "contradiction",
      )
    ],
  ),
  # D.10
  "super_glue_copa_v102": (
    {
      "choice1": "Many citizens relocated to the capitol.",
      "choice2": "Many citizens took refuge in other territories.",
      "premise": "Political violence broke out in the nation.",
      "question": "effect",
      "label": 1,
      "idx": 1,
    },
    [
      (
        "copa choice1: Many citizens relocated to the capitol. choice2: Many "
        "citizens took refuge in other territories. premise: Political "
        "violence broke out in the nation. question: effect",
        "choice2",
      )
    ],
  ),
  # D.11, without markup.
  "super_glue_multirc_v102": (
    {
      "question": "Why was Joey surprised the morning he woke up for "
      "breakfast?",
      "answer": "There was only pie to eat",
      "paragraph": "<b>Sent 1: </b>Once upon a time, there was a squirrel "
      "named Joey.<br><b>Sent 2: </b>Joey loved to go outside.<br>",
      "label": 1,
      "idx": {"paragraph": 5, "question": 6, "answer": 7},
    },
    [
      (
        "multirc question: Why was Joey surprised the morning he woke up for "
        "breakfast? answer: There was only pie to eat paragraph: Sent 1: Once "
        "upon a time, there was a squirrel named Joey. Sent 2: Joey loved to "
        "go outside. ",
        "True",
      )
    ],
  ),
  # D.12; the position of the word is left out.
  "super_glue_wic_v102": (
    {
      "sentence1": "It was the deliberation of his act that was insulting .",
      "sentence2": "The deliberations of the jury .",
      "word": "deliberation",
      "label": 0,
      "idx": 3,
      "start1": 11,
      "end1": 23,
      "start2": 4,
      "end2": 17,
    },
    [
      (
        "wic sentence1: It was the deliberation of his act that was insulting "
        ". sentence2: The deliberations of the jury . word: deliberation",
        "False",
      )
    ],
  ),
  # D.13, D.14
  "super_glue_wsc_v102_simple_train": (
    _WSC,
    [("wsc: Mitchell asked Tom if *he* could lend some money.", "Tom")],
  ),
  "super_glue_wsc_v102_simple_eval": (
    {**_WSC, "label": 0, "span1_text": "Mitchell"},
    [("wsc: Mitchell asked Tom if *he* could lend some money.", "Mitchell")],
  ),
  "dpr_v001_simple": (
    {
      "sentence": "Bob asked Tom if he can lend what he has.",
      "pronoun": "he",
      "candidates": ["Bob", "Tom"],
      "label": 1,
    },
    [("wsc: Bob asked Tom if *he* can lend what he has.", "Tom")],
  ),
  "super_glue_boolq_v102": (
    {
      "question": "is the sky blue",
      "passage": "Sky -- Blue it is.",
      "label": 1,
      "idx": 3,
    },
    [
      (
        "boolq passage: Sky -- Blue it is. question: is the sky blue",
        "True",
      )
    ],
  ),
  "super_glue_record_v102": (
    _RECORD,
    [(_RECORD_INPUTS, "Raffel"), (_RECORD_INPUTS, "Shazeer")],
  ),
  "super_glue_rte_v102": (
    {"hypothesis": "It is.", "premise": "It was.", "label": 0, "idx": 1},
    [("rte hypothesis: It is. premise: It was.", "entailment")],
  ),
  "super_glue_axb_v102": (
    {"sentence1": "The cat sat.", "sentence2": "It sat.", "label": 1, "idx": 2},
    [("rte hypothesis: It sat. premise: The cat sat.", "not_entailment")],
  ),
  "super_glue_axg_v102": (
    {"hypothesis": "It is.", "premise": "It was.", "label": 0, "idx": 1},
    [("rte hypothesis: It is. premise: It was.", "entailment")],
  ),
  # D.15
  "cnn_dailymail_v002": (
    {
      "article": "marouane fellaini and adnan januzaj continue to show.",
      "highlights": "the belgian duo took to the dance floor .",
      "id": "1",
      "publisher": "cnn",
    },
    [
      (
        "summarize: marouane fellaini and adnan januzaj continue to show.",
        "the belgian duo took to the dance floor .",
      )
    ],
  ),
  "xsum_v110": (
    {"document": "A long text.", "summary": "A text."},
    [("summarize: A long text.", "A text.")],
  ),
  "mt5_gem_xsum": (
    {"document": "A long text.", "target": "A text.", "references": []},
    [("summarize: A long text.", "A text.")],
  ),
  # D.16: all but question and context is padded with spaces.
  "squad_v010_allanswers": (
    _QUESTION,
    [
      (
        "question: What does increased oxygen concentrations in the patient ' "
        "s lungs displace ? context: Hyperbaric ( high - pressure ) medicine "
        "uses special oxygen chambers . Increased O 2 concentration in the "
        "lungs helps to displace carbon monoxide from the heme group . ",
        "carbon monoxide",
      )
    ],
  ),
  "squad_v010_context_free": (
    _QUESTION,
    [
      (
        "squad trivia question: What does increased oxygen concentrations in "
        "the patient ' s lungs displace ? ",
        "carbon monoxide",
      )
    ],
  ),
  # D.17
  "wmt_t2t_ende_v003": (
    {
      "en": '"Luigi often said to me that he never wanted the brothers to end '
      'up in court", she wrote.',
      "de": '"Luigi sagte oft zu mir", schrieb sie.',
    },
    [
      (
        'translate English to German: "Luigi often said to me that he never '
        'wanted the brothers to end up in court", she wrote.',
        '"Luigi sagte oft zu mir", schrieb sie.',
      )
    ],
  ),
  # D.18
  "wmt15_enfr_v003": (
    {
      "en": "This image section is an infrared recording.",
      "fr": "Ce détail est une photographie infrarouge.",
    },
    [
      (
        "translate English to French: This image section is an infrared "
        "recording.",
        "Ce détail est une photographie infrarouge.",
      )
    ],
  ),
  # D.19
  "wmt16_enro_v003": (
    {
      "en": "Taco Bell said it plans to add 2,000 locations in the US by 2022.",
      "ro": "Taco Bell a afirmat că, până în 2022, intenționează.",
    },
    [
      (
        "translate English to Romanian: Taco Bell said it plans to add 2,000 "
        "locations in the US by 2022.",
        "Taco Bell a afirmat că, până în 2022, intenționează.",
      )
    ],
  ),
  "wmt_t2t_de_en_v003": (
    {"de": "Das ist gut.", "en": "That is good."},
    [("translate German to English: Das ist gut.", "That is good.")],
  ),
  # Roberts et al. 2020 (https://arxiv.org/abs/2002.08910).
  "natural_questions_open": (
    {"question": "who wrote it", "answer": ["Roberts", "Adam Roberts"]},
    [("nq question: who wrote it", "Roberts")],
  ),
  "trivia_qa_open": (
    {
      "question": "Who wrote it?",
      "answer": {"value": "Roberts", "aliases": ["Adam Roberts", "Roberts"]},
    },
    [("trivia_qa question: Who wrote it?", "Roberts")],
  ),
  "web_questions_open": (
    {"question": "who wrote it?", "url": "", "answers": ["Roberts", "Raffel"]},
    [("wq question: who wrote it?", "Roberts")],
  ),
  # mT5 (https://arxiv.org/abs/2010.11934): accents do not stand apart.
  "mt5_tydiqa_train_dev": (
    _TYDI_QUESTION,
    [
      (
        "question: Où est né François_1 ? context: François est né à l ' été , "
        "1821 . ",
        "à l ' été",
      )
    ],
  ),
  "mt5_xnli_dev_test.de": (
    _XNLI,
    [("xnli: premise: Es regnet. hypothesis: Es ist nass.", "0")],
  ),
  "byt5_xnli_train": (
    {"premise": "It rains.", "hypothesis": "It is wet.", "label": 2},
    [("xnli: premise: It rains. hypothesis: It is wet.", "2")],
  ),
  "umt5_pawsx_dev_test.fr": (
    {"sentence1": "Un.", "sentence2": "Deux.", "label": 1},
    [("paws sentence1: Un. sentence2: Deux.", "paraphrase")],
  ),
  "mt5_ner_train.en": (
    {
      "tokens": ["rick", "and", "morty", "are", "cool", "."],
      "tags": [3, 0, 3, 0, 0, 0],
      "langs": ["en"] * 6,
      "spans": ["PER: rick", "PER: morty"],
    },
    [("tag: rick and morty are cool .", "PER: rick $$ PER: morty")],
  ),
}
