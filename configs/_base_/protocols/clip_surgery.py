# What CLIP Surgery's configs have in common. No evaluation code is published: the squares of 512 pixels, which leaves
# add, and the templates are those of its demo, and its author takes the best class without a threshold. The words are
# SCLIP's.
_base_ = ['../models/clip_surgery.py', '../default_runtime.py']
model = dict(test_cfg=dict(mode='whole'))
