# Images are squeezed into squares of 512 pixels.
_base_ = './short_336.py'
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(scale=(512, 512), keep_ratio=False, interpolation='bicubic', backend='pillow')
