"""From loaded images to CLIP's input, without padding."""

import torch
from mmengine.model import BaseDataPreprocessor
from mmseg.registry import MODELS

from ..errors import ConfigError


@MODELS.register_module()
class CLIPDataPreProcessor(BaseDataPreprocessor):
    """Flip BGR to RGB and normalise; images stay a list, so that none is padded to another's size.

    Args:
        mean: In RGB, for values in 0..255; the segmentor fills in that of the loaded CLIP.
        std: In RGB, for values in 0..255; filled in likewise.
        bgr_to_rgb: The images come as BGR, as MMSeg's loader gives them.
        exact: The segmentor fills in all digits of mean and std, and not thousandths, as SCLIP's family writes them.
        non_blocking: Copy to the device without waiting.
    """

    def __init__(
        self,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        bgr_to_rgb: bool = True,
        exact: bool = False,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: `inputs`, a list of (3, H, W) or a tensor (B, 3, H, W), and perhaps `data_samples`.
            training: Makes no difference.

        Returns:
            `inputs` as a list of (3, H, W) float32 RGB, and `data_samples`.

        Raises:
            ConfigError: An image has not three channels.
        """
        data = self.cast_data(data)
        images = []
        for image in data['inputs']:
            if image.ndim != 3 or image.shape[0] != 3:
                raise ConfigError(
                    f'An image reaches the model as {tuple(image.shape)}; it must be (3, H, W). '
                    "LoadImageFromFile gives three channels with color_type='color' or "
                    "'color_ignore_orientation'."
                )
            image = image.flip(0) if self.bgr_to_rgb else image
            images.append((image.float() - self.mean) / self.std)
        return dict(inputs=images, data_samples=data.get('data_samples'))
