_base_ = [
    '../_base_/models/trident.py',
    '../_base_/data/context59.py',
    '../_base_/pipelines/trident_576.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='context59', class_names='PascalContextDataset59'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
