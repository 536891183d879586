_base_ = ['_base_/models/sclip.py', '_base_/datasets/coco_stuff10k.py', '_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
