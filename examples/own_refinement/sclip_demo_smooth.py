_base_ = '../../configs/sclip_demo.py'
custom_imports = dict(imports=['mmseg_sclip', 'smoothing'], allow_failed_imports=False)
model = dict(test_cfg=dict(refine=[dict(type='MySmoothing', radius=2)]))
