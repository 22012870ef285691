"""One run: configuration, records, checkpoints, curves."""
