# RANDOM groups on the tiny CLIP, to try the commands: nobody has trained SegCLIP for painted scenes.
_base_ = ['../_base_/models/segclip.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
model = _base_.tiny_clip
model.clip = dict(pretrained=None, clip=model.clip)
