# What FreeCP's configs have in common: its windows. Leaves add a short side of 448 pixels.
_base_ = ['../models/freecp_sclip.py', '../default_runtime.py']
model = dict(test_cfg=dict(crop_size=(384, 384), stride=(112, 112)))
