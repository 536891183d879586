_base_ = ['../_base_/protocols/naclip.py', '../_base_/datasets/demo.py']
model = _base_.tiny_clip
