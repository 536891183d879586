import cv2
import numpy as np
import pytest


@pytest.fixture(scope='session')
def small_voc(tmp_path_factory, recipe):
    """A VOC2012 folder with two images."""
    root = tmp_path_factory.mktemp('VOC2012')
    for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        (root / folder).mkdir(parents=True)
    rng = np.random.RandomState(3)
    for number, (height, width) in enumerate(((61, 83), (90, 47))):
        cv2.imwrite(str(root / 'JPEGImages' / f'{number}.jpg'), recipe.image(number, height, width))
        labels = rng.randint(0, 21, (height, width)).astype(np.uint8)
        cv2.imwrite(str(root / 'SegmentationClass' / f'{number}.png'), labels)
    (root / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('0\n1\n')
    return root
