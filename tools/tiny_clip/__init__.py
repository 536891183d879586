"""What `tools/train_demo_clip.py` is made of: captions of painted scenes, and the image tower as it learns."""
