_base_ = '../sclip_coco_stuff164k.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
