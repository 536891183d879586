_base_ = 'maskclip_coco_object.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
