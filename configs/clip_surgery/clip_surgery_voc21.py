_base_ = ['../_base_/protocols/clip_surgery.py', '../_base_/data/voc21.py', '../_base_/pipelines/square_512.py']
model = dict(decode_head=dict(vocabulary='voc21', class_names='PascalVOCDataset', background_index=0))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
