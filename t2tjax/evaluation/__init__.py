"""Task metrics, baselines and the evaluator of a training run."""
