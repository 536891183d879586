_base_ = ['../_base_/protocols/reco.py', '../_base_/data/coco_stuff164k.py', '../_base_/pipelines/centre_320.py']
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
