"""The tiny CLIP of the demo, which was trained on painted scenes of the same kind."""

from pathlib import Path

ARCHITECTURE = Path(__file__).with_name('tiny_clip.json')
WEIGHTS = Path(__file__).with_name('tiny_clip.safetensors')
