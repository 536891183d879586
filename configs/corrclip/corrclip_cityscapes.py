_base_ = ['../_base_/protocols/corrclip.py', '../_base_/data/cityscapes.py', '../_base_/pipelines/short_448.py']
model = dict(
    decode_head=dict(vocabulary='cityscapes_people', class_names='CityscapesDataset'),
    test_cfg=dict(crop_size=(224, 224)),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
