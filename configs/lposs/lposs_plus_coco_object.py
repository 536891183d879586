_base_ = './lposs_coco_object.py'
model = dict(test_cfg=dict(refine=[dict(type='PixelPropagation', radius=6, tau=0.01), dict(type='SynonymMaximum')]))
