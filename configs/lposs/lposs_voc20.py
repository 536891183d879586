_base_ = [
    '../_base_/models/lposs.py',
    '../_base_/data/voc20.py',
    '../_base_/pipelines/short_448.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='voc20_lposs', class_names='PascalVOC20Dataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
