"""The embedded demo: painted scenes, and a tiny CLIP that was trained on pictures of the same kind."""

from pathlib import Path

ARCHITECTURE = Path(__file__).with_name('tiny_clip.json')
WEIGHTS = Path(__file__).with_name('tiny_clip.safetensors')
