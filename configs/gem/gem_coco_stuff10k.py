_base_ = ['../_base_/protocols/gem.py', '../_base_/data/coco_stuff10k.py', '../_base_/pipelines/square_448.py']
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
