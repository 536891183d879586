# Images are squeezed into squares of 448 pixels.
_base_ = './short_336.py'
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(scale=(448, 448), keep_ratio=False, interpolation='bicubic', backend='pillow')
