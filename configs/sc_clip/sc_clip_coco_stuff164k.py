_base_ = ['../_base_/models/sc_clip.py', '../_base_/datasets/coco_stuff164k_336.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
