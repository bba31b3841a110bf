"""T5X's folder of the same name."""
