"""Small real data for examples, tests and benches; README.md says where they come from."""
