# As short_336.py, with a short side of 512 pixels.
_base_ = './short_336.py'
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(scale=(2048, 512))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2]['transforms'][0] = [
    dict(type='Resize', scale=(int(2048 * r), int(512 * r)), keep_ratio=True) for r in (0.75, 1.0, 1.25, 1.5)
]
