# What OVSegmentor's configs have in common: its windows, which are GroupViT's. Leaves add a short side of 448 pixels.
_base_ = ['../models/ovsegmentor.py', '../default_runtime.py']
model = dict(test_cfg=dict(crop_size=(448, 448), stride=(224, 224)))
