"""torchvision's ResNets, with the norm that was chosen, and for small images without the large stem."""

from torch import nn
from torchvision.models import get_model


def network(
    classes: int, depth: int, norm: str = "batch", norm_groups: int = 8, small_images: bool = False,
    variant: str = "standard", **_: object,
) -> nn.Module:  # fmt: skip
    """The network, its weights still random."""

    def norm_of(channels: int) -> nn.Module:
        if norm == "batch":
            return nn.BatchNorm2d(channels)
        return nn.GroupNorm(max(g for g in range(1, min(norm_groups, channels) + 1) if channels % g == 0), channels)

    name = f"resnet{depth}"
    if variant == "wide":
        name = f"wide_resnet{depth}_2"
    elif variant != "standard":  # resnext_32x4d and the like
        name = f"resnext{depth}_{variant.removeprefix('resnext_')}"
    model: nn.Module = get_model(name, num_classes=classes, norm_layer=norm_of)
    if small_images:
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    return model
