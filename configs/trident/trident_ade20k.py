_base_ = [
    '../_base_/models/trident.py',
    '../_base_/data/ade20k.py',
    '../_base_/pipelines/trident_576.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='ade20k', class_names='ADE20KDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
