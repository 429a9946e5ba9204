"""Weights of image trunks that were trained on ImageNet, as safetensors: no pickle is opened."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from equidiff.encoders.wrist_image import WristImageEncoder

__all__ = ["HUB", "WeightsError", "load_pretrained"]

HUB = {"resnet18": "timm/resnet18.tv_in1k", "resnet34": "timm/resnet34.tv_in1k"}
"""Repositories of the Hugging Face hub that hold torchvision's weights, with torchvision's names."""


class WeightsError(ValueError):
    """Weights that cannot be had or do not fit; the message says which encoder asked, and the fix."""


def load_pretrained(policy: nn.Module) -> list[str]:
    """Load the weights that the encoders of a new policy ask for; the names of those that did.

    An encoder's `weights` is the path of a safetensors file, or "imagenet": torchvision's weights, fetched once from
    the hub. Called before training only, because a checkpoint holds the trained weights. Raises WeightsError.
    """
    loaded = []
    for name, module in policy.named_modules():
        if not isinstance(module, WristImageEncoder) or module.weights is None:
            continue
        path = _fetch(name, module.trunk_name) if module.weights == "imagenet" else Path(module.weights)
        given = {key: value for key, value in _read(name, path).items() if not key.startswith("fc.")}
        wanted = module.named_trunk()
        missing = sorted(set(wanted) - set(given))
        wrong = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
        if missing or wrong:
            key = (missing or wrong)[0]
            raise WeightsError(
                f"{name}.weights: {path} does not fit a {module.trunk_name}: {key!r} is "
                f"{'missing' if missing else f'{tuple(given[key].shape)}, expected {tuple(wanted[key].shape)}'}"
            )
        for key, tensor in wanted.items():
            tensor.data.copy_(given[key])
        loaded.append(name)
    return loaded


def _read(name: str, path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"{name}.weights: no such file {path}; expected safetensors, or imagenet")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{name}.weights: {path} cannot be read ({error}); expected safetensors, copy or download it again"
        ) from error


def _fetch(name: str, trunk: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise WeightsError(f"{name}.weights=imagenet needs huggingface_hub: pip install huggingface_hub") from error
    try:
        return Path(hf_hub_download(HUB[trunk], "model.safetensors"))
    except Exception as error:  # the library raises errors of several HTTP clients
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{name}.weights=imagenet: {HUB[trunk]} cannot be fetched ({type(error).__name__}: {reason}). Download its "
            "model.safetensors where there is a network and give its path"
        ) from error
