"""T5X's tasks for GPU benchmarks; registers none.

GLUE and SQuAD are registered under T5's names (`glue_v002_proportional`,
`squad_v010_allanswers`); The Pile is no longer distributed.
"""
