# LPOSS+ (CVPR 2025): LPOSS, whose scores are spread over pixels of one colour then.
_base_ = './lposs.py'
model = dict(test_cfg=dict(refine=[dict(type='PixelPropagation', radius=6, tau=0.01)]))
