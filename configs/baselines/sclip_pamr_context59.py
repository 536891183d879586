_base_ = '../sclip_context59.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
