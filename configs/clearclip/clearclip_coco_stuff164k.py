_base_ = ['../_base_/protocols/clearclip.py', '../_base_/datasets/coco_stuff164k.py']
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
