# SCLIP as in the paper's code, for any dataset: a leaf adds the vocabulary, and thresholds where there is a background.
model = dict(
    type='SCLIPSegmentor',
    clip=dict(model_name='ViT-B-16-quickgelu', pretrained='openai'),
    backbone=dict(
        type='CLIPVisionTransformer',
        decoder=dict(
            type='LastBlock',
            attention=dict(type='CorrelativeSelfAttention', projections=('q', 'k')),
            residual=True,
            ffn=True,
        ),
    ),
    decode_head=dict(type='TextSimilarityHead', templates='openai_imagenet', class_names=None, background_index=None),
    test_cfg=dict(
        mode='slide',
        crop_size=(224, 224),
        stride=(112, 112),
        logit_scale=40,
        prob_thd=None,
        area_thd=None,
        window_batch=16,
        keep_scores=False,
    ),
)
