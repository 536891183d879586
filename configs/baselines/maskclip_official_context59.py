_base_ = [
    '../_base_/models/maskclip_official.py',
    '../_base_/datasets/context59.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='context59', class_names='PascalContextDataset59'))
test_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(type='Resize', scale=(520, 520), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
