"""Defaults are the values of the papers or, where a paper's code differs, of the code; written down here by hand."""

import inspect

import pytest
from mmseg.registry import MODELS

DEFAULTS = dict(
    # SCLIP: both softmaxes summed, tau the root of the head dimension, residual and feed-forward part kept. The
    # ablations of its Table 3: layer 3, a window of 3, sharpening by 2.
    CorrelativeSelfAttention=dict(projections=('q', 'k'), reduction='sum', tau=None, gain=1),
    LastBlock=dict(residual=True, ffn=True),
    EarlierAttention=dict(block=3),
    LocalSelfAttention=dict(window=3),
    SharpenedSelfAttention=dict(temperature=2),
    PAMR=dict(steps=10, dilations=(8, 16)),
    # CLIP Surgery and GEM: the last six blocks; the path keeps its residual, and GEM makes one iteration with a
    # temperature of each image, and brings maps to 0..1.
    ParallelPath=dict(blocks=6, residual=True, original_cls=False),
    FeatureSurgeryHead=dict(factor=2, redundant=None),
    SelfSelfAttention=dict(projections=('q', 'k', 'v'), iterations=1, inverse_temperature=None),
    ForegroundOnly=dict(min_max=True),
    # NACLIP.
    NeighbourAttention=dict(std=5),
    NeighbourPriorAttention=dict(std=5),
    # ResCLIP: blocks 6 to 9, ADE20K's lambdas, taus and threshold, the scale and PAMR of SCLIP.
    ResidualCrossCorrelation=dict(share=0.3, gain=2, blocks=(6, 7, 8, 9)),
    SemanticFeedback=dict(
        share=0.7, gain=2.1, threshold=0.25, logit_scale=40, steps=10, dilations=(8, 16), decay=True, blur=5
    ),
    # SC-CLIP: beta 0.4, rho 0.3, block 9 before the last block and block 4 after it, levels 4 to 10; outliers by 30
    # neighbours, 5 % of the patches.
    SelfCalibratedAttention=dict(affinity_block=9, sharpness=3, neighbours=30, outlier_share=0.05),
    SelfCalibratedDecoder=dict(threshold=0.4, smoothing_block=4, levels=(4, 10), cls_weight=0.3),
    # SFP: the same beta and block; ten outliers, and 5 times rho as gain.
    PurifiedAttention=dict(detector=None, affinity_block=9, sharpness=3, threshold=0.4),
    AttentionOutliers=dict(count=10, gain=1.5),
    NormOutliers=dict(count=10),
    DensityOutliers=dict(neighbours=30, share=0.05),
    # PEARL: 0.08 but for Cityscapes and ADE20K, a grid of 80 but for Cityscapes.
    ProcrustesAttention=dict(alpha=0.08, solver='newton_schulz'),
    TextLabelPropagation=dict(grid=80, text=True),
    # CLIPtrase at 336 pixels.
    SegmentVoting=dict(eps=1.1, min_points=7),
    # FreeCP: rp of three datasets, boxes at 0.4 of the largest value.
    RedundancyPurificationHead=dict(redundancy_thd=0.1, scale=None, box_thd=0.4),
    # CLIPer: scale 100, the last layer, attention_thr of most datasets, windows only where they are asked for.
    EarlyLayerFusion=dict(attention=None, crop_size=None, stride=112),
    EarlyLayerFusionHead=dict(scale=100, layer=-1, attention_thd=0.2, score_thd=0, min_max=False),
    # GroupViT: the threshold of VOC21, five classes of the image.
    GroupPaintingHead=dict(bg_thresh=0.95, top_classes=5),
    # MaskCLIP: both refinements are options.
    MaskCLIPHead=dict(pd_thresh=None, ks_thresh=None),
)


@pytest.mark.parametrize('name', DEFAULTS)
def test_defaults(name):
    parameters = inspect.signature(MODELS.get(name)).parameters
    assert {key: parameters[key].default for key in DEFAULTS[name]} == DEFAULTS[name]
