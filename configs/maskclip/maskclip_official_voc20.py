_base_ = [
    '../_base_/models/maskclip_official.py',
    '../_base_/data/voc20.py',
    '../_base_/pipelines/short_512.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='voc20', class_names='PascalVOC20Dataset'))
test_pipeline = _base_.test_pipeline
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
