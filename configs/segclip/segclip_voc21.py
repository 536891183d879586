_base_ = ['../_base_/protocols/segclip.py', '../_base_/data/voc21.py', '../_base_/pipelines/short_224.py']
model = dict(
    decode_head=dict(vocabulary='voc21_peers', class_names='PascalVOCDataset', background_index=0, bg_thresh=0.8)
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
