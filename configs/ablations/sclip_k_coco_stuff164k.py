# SCLIP's Table 2: the key projection alone.
_base_ = '../sclip_coco_stuff164k.py'
model = dict(backbone=dict(decoder=dict(attention=dict(projections=['k']))))
