# CLIPer's: a short side of 560 pixels, and sides of whole patches of ViT-B/16.
_base_ = './short_336.py'
test_pipeline = _base_.test_pipeline
test_pipeline[2] = dict(type='ResizeToPatches', short_side=560, interpolation='bicubic', backend='pillow')
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2]['transforms'][0] = [dict(test_pipeline[2], short_side=int(560 * r)) for r in (0.75, 1.0, 1.25, 1.5)]
