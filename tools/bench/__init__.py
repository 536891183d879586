"""Speed and memory of configs against the plain implementation in tests/reference.py; see tools/benchmark.py."""
