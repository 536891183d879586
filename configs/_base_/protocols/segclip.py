# What SegCLIP's configs have in common: its windows. Leaves add a short side of 224 pixels. It has configs of its own
# for VOC21, Context60 and COCO-Object; the other datasets take the same windows and have no background.
_base_ = ['../models/segclip.py', '../default_runtime.py']
model = dict(test_cfg=dict(crop_size=(224, 224), stride=(224, 224)))
