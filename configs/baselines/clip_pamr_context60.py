_base_ = 'clip_context60.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
