"""The tiny CLIP of the demo, which was trained on painted scenes without confetti; see docs/ablations.md."""

from pathlib import Path

ARCHITECTURE = Path(__file__).with_name('tiny_clip.json')
WEIGHTS = Path(__file__).with_name('tiny_clip.safetensors')
