"""What a user may not write about a part of the model, and the words of the message that says so."""

from __future__ import annotations

from functools import reduce

import pytest
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from mmseg_sclip.checks import check_arguments
from mmseg_sclip.errors import ConfigError

ATTENTION, DECODER, REFINE = 'backbone.decoder.attention', 'backbone.decoder', 'test_cfg.refine'
VANILLA = dict(type='VanillaSelfAttention')
BLOCK = dict(type='LastBlock', attention=VANILLA)
SHARE = 'it must be a number from 0 to 1'
POSITIVE = 'it must be a positive number'
SWITCH = 'it must be True or False'
COUNT = 'it must be a whole number, at least 1'


def attention(name, words, **arguments):
    return ATTENTION, dict(type=name, **arguments), words


def decoder(name, words, **arguments):
    return DECODER, dict(type=name, **{'attention': VANILLA, **arguments}), words


def head(name, words, **arguments):
    return 'decode_head', dict(type=name, vocabulary=['cat', 'dog'], templates='simple', **arguments), words


def refinement(name, words, **arguments):
    return REFINE, [dict(type=name, **arguments)], words


def csa(words, **arguments):
    return attention('CorrelativeSelfAttention', words, **arguments)


def rcs(words, **arguments):
    return attention('ResidualCrossCorrelation', words, **{'base': VANILLA, 'blocks': (1, 2), **arguments})


def feedback(words, **arguments):
    return attention('SemanticFeedback', words, **{'base': VANILLA, **arguments})


def sc_clip(words, kind='SelfCalibratedAttention', more=(), **arguments):
    inner = dict(type=kind, **{'affinity_block': 1, **arguments})
    return decoder(
        'SelfCalibratedDecoder', words, **{'attention': inner, 'smoothing_block': 1, 'levels': (1, 2), **dict(more)}
    )


def sfp(words, detector, **arguments):
    return sc_clip(words, 'PurifiedAttention', detector=dict(type=detector, **arguments))


REFUSED = [
    # Names.
    (DECODER, dict(type='LastBlok', attention=VANILLA), "backbone.decoder has the type 'LastBlok', which is not reg"),
    (DECODER, dict(type='LastBlok', attention=VANILLA), "Did you mean 'LastBlock'? Known: CompanionGrid, "),
    (DECODER, dict(attention=VANILLA), "backbone.decoder must be a dict with a 'type', such as dict(type='...'), but"),
    (ATTENTION, dict(type='LastBlock'), "'LastBlock', which is not a kind of Attention."),
    attention('NeighbourAttention', "'sdt' in backbone.decoder.attention (NeighbourAttention). Did you mean 's", sdt=1),
    ('backbone', dict(type='CLIPVisionTransfomer'), "model.backbone has the type 'CLIPVisionTransfomer'"),
    refinement('PARM', "Did you mean 'PAMR'"),
    refinement('PAMR', "Did you mean 'steps'", step=1),
    (REFINE, ['PAMR'], "must be a dict with a 'type'"),
    # The backbone, the preprocessor and decoders.
    ('backbone.positions', 'scal', "model.backbone: CLIPVisionTransformer.positions is 'scal'; it must be one of 'sc"),
    ('backbone.positions', 'scal', "Did you mean 'scale'?"),
    ('backbone.out_cls', 'no', f"CLIPVisionTransformer.out_cls is 'no'; {SWITCH}."),
    ('data_preprocessor', dict(type='CLIPDataPreProcessor', mean=[1, 2]), 'mean is [1, 2]; it must be (a number, a n'),
    ('data_preprocessor', dict(type='CLIPDataPreProcessor', std=[1, 2, 'x']), "std is [1, 2, 'x']; it must be"),
    ('data_preprocessor', dict(type='CLIPDataPreProcessor', bgr_to_rgb='no'), SWITCH),
    decoder('LastBlock', f"backbone.decoder: LastBlock.residual is 'no'; {SWITCH}.", residual='no'),
    decoder('LastBlock', f'LastBlock.ffn is 1; {SWITCH}', ffn=1),
    decoder('ParallelPath', f'ParallelPath.blocks is 0; {COUNT}.', blocks=0),
    decoder('ParallelPath', 'blocks is 4, but this image tower has 3 blocks', blocks=4),
    decoder('ParallelPath', f'residual is None; {SWITCH}', residual=None),
    decoder('ParallelPath', f"original_cls is 'yes'; {SWITCH}", original_cls='yes'),
    # SCLIP and its ablations.
    csa("CorrelativeSelfAttention.reduction is 'max'; it must be one of 'sum', 'mean'.", reduction='max'),
    csa("Did you mean 'mean'?", reduction='maen'),
    csa(f'tau is -1; {POSITIVE}, or None.', tau=-1),
    csa(f'tau is inf; {POSITIVE}', tau=float('inf')),
    csa(f'gain is 0; {POSITIVE}.', gain=0),
    csa(f'gain is True; {POSITIVE}.', gain=True),
    csa('it must name at least one, and none twice', projections=('q', 'q')),
    csa("An entry of projections is 'qk'.", projections='qk'),
    csa("Did you mean 'learned'", projections='learnt'),
    csa("OwnProjection.name is 'w'; it must be one of 'q', 'k',", projections=dict(type='OwnProjection', name='w')),
    csa("Did you mean 'count'", projections=[dict(type='RandomProjection', cuont=3)]),
    csa(f'RandomProjection.count is 0; {COUNT}.', projections=[dict(type='RandomProjection', count=0)]),
    csa("LearnedProjection.init is 'v'; it must be one of 'q',", projections=dict(type='LearnedProjection', init='v')),
    attention('LocalSelfAttention', 'window is 2; it must be an odd whole number, at least 1.', window=2),
    attention('LocalSelfAttention', 'window is 3.0; it must be an odd', window=3.0),
    attention('SharpenedSelfAttention', f'temperature is 0; {POSITIVE}.', temperature=0),
    attention('EarlierAttention', 'EarlierAttention.block is (0,); blocks count from 1', block=0),
    attention('EarlierAttention', "block is 'last'; it must be a whole number.", block='last'),
    attention('BlockMeanAttention', 'blocks is (); it must be a non-empty list, each entry a whole num', blocks=()),
    attention('BlockMeanAttention', 'blocks is 3; it must be a non-empty list', blocks=3),
    attention('BlockMeanAttention', 'blocks count from 1, one or more must be named', blocks=(0,)),
    attention('BlockMeanAttention', 'none may be named twice', blocks=(2, -2)),
    attention('BlockMeanAttention', 'no block 4', blocks=(4,)),
    # MaskCLIP.
    head('MaskCLIPHead', f'model.decode_head: MaskCLIPHead.pd_thresh is 2; {SHARE}, or None.', pd_thresh=2),
    head('MaskCLIPHead', f'ks_thresh is -0.1; {SHARE}, or None.', ks_thresh=-0.1),
    # CLIP Surgery.
    head('FeatureSurgeryHead', f'FeatureSurgeryHead.factor is 0; {POSITIVE}.', factor=0),
    head('FeatureSurgeryHead', 'redundant is 3; it must be a text, or None.', redundant=3),
    head('FeatureSurgeryHead', "background_index is 'sky'; it must be a whole number, or", background_index='sky'),
    # GEM.
    attention('SelfSelfAttention', 'iterations is -1; it must be a whole number, at least 0.', iterations=-1),
    attention('SelfSelfAttention', f'inverse_temperature is 0; {POSITIVE}, or None.', inverse_temperature=0),
    refinement('ForegroundOnly', f'ForegroundOnly.min_max is 1; {SWITCH}', min_max=1),
    # NACLIP.
    attention('NeighbourAttention', f'{ATTENTION}: NeighbourAttention.std is 0; {POSITIVE}.', std=0),
    attention('NeighbourAttention', f'std is nan; {POSITIVE}', std=float('nan')),
    attention('NeighbourAttention', f"std is 'wide'; {POSITIVE}", std='wide'),
    attention('NeighbourPriorAttention', f'std is 0; {POSITIVE}', std=0),
    # ResCLIP.
    *[rcs(f'share is {share!r}; {SHARE}.', share=share) for share in (1.5, -0.5, True, '0.5', float('nan'))],
    rcs('ResidualCrossCorrelation.blocks is ()', blocks=()),
    rcs('ResidualCrossCorrelation.blocks is (0, 2)', blocks=(0, 2)),
    rcs('no block 4', blocks=(2, 4)),
    feedback(f'SemanticFeedback.share is 1.1; {SHARE}.', share=1.1),
    feedback("Unknown key 'tau'", tau=2),
    feedback(SWITCH, decay='no'),
    feedback('steps is -1; it must be a whole number, at least 0.', steps=-1),
    feedback('dilations is (8, 0); it must be a non-empty list, each', dilations=(8, 0)),
    feedback(f'blur is 0; {POSITIVE}, or None.', blur=0),
    feedback('of 2 passes; it must be an attention of one pass', base=dict(type='SemanticFeedback', base=VANILLA)),
    # SC-CLIP and SFP.
    sc_clip(f'SelfCalibratedAttention.neighbours is 0; {COUNT}.', neighbours=0),
    sc_clip(f'outlier_share is 1.5; {SHARE}.', outlier_share=1.5),
    sc_clip('no block 4', affinity_block=4),
    sc_clip('levels is (2, 1); it must be the first and the last', more=dict(levels=(2, 1))),
    sc_clip('levels is (1,); it must be (a whole number, a whole number).', more=dict(levels=(1,))),
    sc_clip("cls_weight is 'x'; it must be a number.", more=dict(cls_weight='x')),
    decoder('SelfCalibratedDecoder', 'not a kind of SelfCalibratedAttention'),
    sfp("'NormOutliers'", 'NormOutlier'),
    sfp(f'attention.detector: AttentionOutliers.count is 0; {COUNT}.', 'AttentionOutliers', count=0),
    sfp(f'NormOutliers.count is 0; {COUNT}.', 'NormOutliers', count=0),
    sfp(f'DensityOutliers.neighbours is 0; {COUNT}.', 'DensityOutliers', neighbours=0),
    sfp(f'DensityOutliers.share is 2; {SHARE}.', 'DensityOutliers', share=2),
    # PEARL.
    attention('ProcrustesAttention', 'alpha is -1; it must be a number, at least 0.', alpha=-1),
    attention('ProcrustesAttention', 'alpha is inf; it must be a number, at least 0.', alpha=float('inf')),
    attention('ProcrustesAttention', "it must be one of 'newton_schulz', 'svd'", solver='qr'),
    refinement('TextLabelPropagation', f'grid is 0; {COUNT}.', grid=0),
    refinement('TextLabelPropagation', f"text is 'no'; {SWITCH}.", text='no'),
    # FreeCP.
    head('RedundancyPurificationHead', 'is 0.6; it must be a number from 0 to 0.5.', redundancy_thd=0.6),
    head('RedundancyPurificationHead', f'scale is 0; {POSITIVE}, or None.', scale=0),
    head('RedundancyPurificationHead', f'box_thd is 1.1; {SHARE}.', box_thd=1.1),
    head(
        'RedundancyPurificationHead',
        f'MeanAttention.head is 0; {COUNT}, or None.',
        affinity=dict(type='MeanAttention', head=0),
    ),
    decoder('LastBlock', "(LastBlock) has no key 'keys' any more: MaskCLIPHead", keys=True),
    # CLIPtrase.
    refinement('SegmentVoting', f'SegmentVoting.eps is 0; {POSITIVE}.', eps=0),
    refinement('SegmentVoting', f'min_points is 0; {COUNT}.', min_points=0),
    # CLIPer.
    decoder('EarlyLayerFusion', f'stride is 0; {COUNT}.', attention=None, stride=0),
    decoder('EarlyLayerFusion', f'crop_size is 0; {COUNT}, or None.', attention=None, crop_size=0),
    decoder('EarlyLayerFusion', 'stride is 80 and crop_size 64', attention=None, crop_size=64, stride=80),
    decoder('EarlyLayerFusion', 'not a kind of EarlyLayerAttention'),
    head('EarlyLayerFusionHead', f'scale is 0; {POSITIVE}.', scale=0),
    head('EarlyLayerFusionHead', "layer is 'x'; it must be a whole number.", layer='x'),
    head('EarlyLayerFusionHead', f'attention_thd is 2; {SHARE}.', attention_thd=2),
    head('EarlyLayerFusionHead', f'score_thd is -1; {SHARE}.', score_thd=-1),
    head('EarlyLayerFusionHead', SWITCH, min_max='no'),
    # Refinements of all methods.
    refinement('PAMR', 'refine: PAMR.steps is -1; it must be a whole number, at least 0.', steps=-1),
    refinement('PAMR', 'PAMR.steps is True', steps=True),
    refinement('PAMR', 'each entry a whole number, at least 1.', dilations=(8, 0)),
    refinement('PAMR', 'dilations is (); it must be a non-empty list', dilations=()),
    refinement('DenseCRF', 'DenseCRF.steps is -1; it must be a whole number, at least 0.', steps=-1),
    refinement('DenseCRF', "smoothness is 'x'; it must be a number.", smoothness='x'),
]


def build(source, where, part, decoder=BLOCK, **test_cfg):
    model = dict(
        type='SCLIPSegmentor',
        clip=source,
        backbone=dict(type='CLIPVisionTransformer', decoder=dict(decoder)),
        decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple'),
        test_cfg=dict(mode='whole') | test_cfg,
    )
    *path, last = where.split('.')
    reduce(dict.__getitem__, path, model)[last] = part
    return MODELS.build(ConfigDict(model))


@pytest.mark.parametrize('where, part, words', REFUSED, ids=[words for _, _, words in REFUSED])
def test_refused(source, where, part, words):
    with pytest.raises(ConfigError) as caught:
        build(source, where, part)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    'kind, more',
    [('MaskCLIPHead', dict(pd_thresh=0.5)), ('MaskCLIPHead', dict(ks_thresh=1)), ('EarlyLayerFusionHead', {})],
)
def test_heads_that_compare_the_patches_of_an_image_refuse_windows(source, kind, more):
    decoder, scale = (BLOCK, 40) if more else (dict(type='EarlyLayerFusion'), None)
    where, part, words = head(kind, f"{kind} compares the patches of a whole image, but model.test_cfg.mode is 'slide'")
    with pytest.raises(ConfigError, match=words):
        build(source, where, part | more, decoder, mode='slide', crop_size=64, stride=32, logit_scale=scale)


def test_the_ends_of_a_range_are_allowed():
    for kind, given in (
        *[('ResidualCrossCorrelation', dict(base=VANILLA, share=share)) for share in (0, 1, 0.5)],
        *[('SemanticFeedback', dict(base=VANILLA, share=share, steps=0, blur=None)) for share in (0, 1)],
        *[('SelfCalibratedAttention', dict(outlier_share=share, neighbours=1)) for share in (0, 1)],
        ('ProcrustesAttention', dict(alpha=0)),
        ('SelfSelfAttention', dict(iterations=0, inverse_temperature=None)),
        ('LocalSelfAttention', dict(window=1)),
        ('CorrelativeSelfAttention', dict(tau=None, gain=2, projections='k')),
        *[('BlockMeanAttention', dict(blocks=blocks)) for blocks in (None, [-1])],
        ('MaskCLIPHead', dict(pd_thresh=0, ks_thresh=1)),
        *[('RedundancyPurificationHead', dict(redundancy_thd=end, box_thd=2 * end, scale=None)) for end in (0, 0.5)],
        *[('EarlyLayerFusionHead', dict(attention_thd=end, score_thd=1 - end)) for end in (0, 1)],
    ):
        check_arguments('x', MODELS.get(kind), dict(given, type=kind))
