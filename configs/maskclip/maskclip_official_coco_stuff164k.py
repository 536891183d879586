_base_ = [
    '../_base_/models/maskclip_official.py',
    '../_base_/data/coco_stuff164k.py',
    '../_base_/pipelines/short_512.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
test_pipeline = _base_.test_pipeline
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
