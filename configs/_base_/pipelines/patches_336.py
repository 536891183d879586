# CLIPer's: a short side of 336 pixels, and sides of whole patches of ViT-B/16.
_base_ = './short_336.py'
test_pipeline = _base_.test_pipeline
test_pipeline[2] = dict(type='ResizeToPatches', short_side=336, interpolation='bicubic', backend='pillow')
