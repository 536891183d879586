_base_ = [
    '../_base_/models/trident.py',
    '../_base_/data/voc20.py',
    '../_base_/pipelines/trident_336.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(vocabulary='voc20_plain', class_names='PascalVOC20Dataset'),
    stitch=dict(cos_fac=0.0),
    test_cfg=dict(stride=(112, 112)),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
