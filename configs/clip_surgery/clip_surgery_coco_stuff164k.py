_base_ = [
    '../_base_/protocols/clip_surgery.py',
    '../_base_/data/coco_stuff164k.py',
    '../_base_/pipelines/square_512.py',
]
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
