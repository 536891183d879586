_base_ = 'clip_coco_stuff10k.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
