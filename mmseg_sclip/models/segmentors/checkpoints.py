"""What a checkpoint on top of a frozen CLIP may hold and lack."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...errors import ConfigError
from ..clip.weights import refuse_not_finite


def check_checkpoint(model: nn.Module, state_dict: Mapping) -> None:
    """Refuse a checkpoint that MMEngine, which loads non-strictly, would only log.

    Args:
        model: The model that loads it.
        state_dict: Of the checkpoint.

    Raises:
        ConfigError: A tensor has another shape than the model's, or none belongs to the model.
        BadFileError: A tensor holds NaN or infinity.
    """
    refuse_not_finite('The checkpoint', {key: value for key, value in state_dict.items() if isinstance(value, Tensor)})
    own = model.state_dict()
    wrong = [key for key in own if key in state_dict and own[key].shape != state_dict[key].shape]
    if wrong:
        raise ConfigError(
            f'The checkpoint was made for another model: {wrong[0]} is {tuple(state_dict[wrong[0]].shape)} in it and '
            f'{tuple(own[wrong[0]].shape)} here. Use the config and the CLIP that it was trained with.'
        )
    if not set(state_dict) & set(own):
        raise ConfigError(
            'The checkpoint has no weight for this model: it holds '
            f'{", ".join(list(state_dict)[:3]) or "nothing"}, ... '
            "A checkpoint holds what was trained on top of CLIP; CLIP's own weights are named in clip=dict("
            'pretrained=...) or --pretrained.'
        )


def forget_frozen_keys(model: nn.Module, incompatible: Any) -> None:
    """A hook for `register_load_state_dict_post_hook`: CLIP's own weights may be missing in a checkpoint.

    They come from `clip.pretrained`, so MMEngine shall not list them as missing.

    Args:
        model: The model that has loaded.
        incompatible: Its `missing_keys` are changed in place.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if key in trained]
