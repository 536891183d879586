# What ClearCLIP's configs have in common. Leaves add a short side of 448 pixels.
_base_ = ['../models/clearclip.py', '../default_runtime.py']
model = dict(test_cfg=dict(crop_size=(448, 448), stride=(224, 224), logit_scale=50))
