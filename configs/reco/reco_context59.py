# The protocol of TCL's paper (CVPR 2023), whose numbers of ReCo SCLIP's table repeats.
_base_ = ['../_base_/protocols/reco.py', '../_base_/data/context59.py', '../_base_/pipelines/short_448.py']
model = dict(
    decode_head=dict(vocabulary='context59', class_names='PascalContextDataset59'),
    test_cfg=dict(mode='slide', crop_size=(448, 448), stride=(224, 224)),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
