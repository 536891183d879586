# There is no TCL for the tiny CLIP: its decoder is the one before training, which repeats the last block's patches.
_base_ = ['../_base_/models/tcl.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
model = _base_.tiny_clip
model.clip = dict(pretrained=None, clip=model.clip)
model.test_cfg.window_multiple = 8
