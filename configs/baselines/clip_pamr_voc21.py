_base_ = 'clip_voc21.py'
model = dict(test_cfg=dict(pamr=dict(steps=10, dilations=(8, 16))))
