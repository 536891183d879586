_base_ = 'maskclip_voc20.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
