_base_ = './lposs_context59.py'
model = dict(test_cfg=dict(refine=[dict(type='PixelPropagation', radius=6, tau=0.01)]))
