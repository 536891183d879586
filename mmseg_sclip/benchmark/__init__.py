"""Speed and memory against a plain implementation, in one run."""
