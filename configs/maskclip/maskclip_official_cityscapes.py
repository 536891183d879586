_base_ = [
    '../_base_/models/maskclip_official.py',
    '../_base_/data/cityscapes.py',
    '../_base_/pipelines/short_512.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'))
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(scale=(1024, 512))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2]['transforms'][0] = [
    dict(type='Resize', scale=(int(1024 * r), int(512 * r)), keep_ratio=True) for r in (0.75, 1.0, 1.25, 1.5)
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
