_base_ = [
    '../_base_/models/maskclip_official.py',
    '../_base_/data/cityscapes.py',
    '../_base_/pipelines/short_512.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'))
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(scale=(1024, 512))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
