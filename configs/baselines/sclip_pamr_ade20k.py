_base_ = '../sclip_ade20k.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
