"""seqio Tasks and Mixtures, one file per application, and bundled data."""
