# What CorrCLIP's configs have in common: sizes and thresholds are ProxyCLIP's. Those of Cityscapes and ADE20K have a
# short side of 448 pixels, Cityscapes has windows of 224.
_base_ = ['../models/corrclip.py', '../default_runtime.py']
model = dict(test_cfg=dict(crop_size=(336, 336), stride=(112, 112)))
