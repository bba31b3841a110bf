"""The shipped gin templates: models, optimizers, runs and recipes."""
