# Images are squeezed into squares of 448 pixels.
_base_ = './short_336.py'
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(scale=(448, 448), keep_ratio=False, interpolation='bicubic', backend='pillow')
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2]['transforms'][0] = [
    dict(test_pipeline[2], scale=(int(448 * r), int(448 * r))) for r in (0.75, 1.0, 1.25, 1.5)
]
