"""Speed and memory of configs against the plain implementation in plain.py; see tools/benchmark.py."""
