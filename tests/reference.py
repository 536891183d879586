"""The plain implementation that results are compared with; it is the one of the benchmark."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / 'tools'))

from bench.plain import Reference, class_probabilities

__all__ = ['Reference', 'class_probabilities']
