_base_ = [
    '../_base_/models/lposs.py',
    '../_base_/datasets/coco_stuff164k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(vocabulary='coco_stuff_names', class_names='COCOStuffDataset'))
