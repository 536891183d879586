# What GroupViT's configs have in common: its windows. Leaves add a short side of 448 pixels. It has configs of its own
# for VOC21, Context60 and COCO-Object; the other datasets take the same windows and have no background.
_base_ = ['../models/groupvit.py', '../default_runtime.py']
model = dict(test_cfg=dict(crop_size=(448, 448), stride=(224, 224)))
