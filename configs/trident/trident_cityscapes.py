_base_ = [
    '../_base_/models/trident.py',
    '../_base_/data/cityscapes.py',
    '../_base_/pipelines/trident_688.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'),
    stitch=dict(cos_fac=3.0, halves=True),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
