_base_ = './lposs_demo.py'
model = dict(test_cfg=dict(refine=[dict(type='PixelPropagation', radius=6, tau=0.01)]))
