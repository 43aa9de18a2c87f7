"""The inside of `evaluate` and `compare`: from a source and what stands beside it to a result, by parts that merge."""
