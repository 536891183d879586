_base_ = 'clip_demo.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
