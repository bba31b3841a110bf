"""Other frameworks' names for what is here; only configurations use them."""
