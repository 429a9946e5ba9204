"""The published policies from escnn's and torch's modules, at any width, with the names of their states."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from diffusers.schedulers import DDPMScheduler
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from escnn import gspaces
    from escnn import nn as en
    from escnn.group import cyclic_group
from torchvision.models import resnet18

N = 8
STEPS = 12


class PlainPolicy(nn.Module):
    """Randomly initialised. `image` or voxels, `relative` or absolute control."""

    def __init__(self, image: bool, relative: bool, hidden: int = 16, widths: tuple[int, ...] = (8, 16)) -> None:
        super().__init__()
        self.image, self.relative, self.steps = image, relative, 2 if image else 1
        point = gspaces.no_base_space(cyclic_group(N))
        regular, scalar = point.regular_repr, point.trivial_repr
        self.enc = nn.Module()
        self.enc.enc_obs = nn.Module()
        self.enc.enc_obs.conv = _scene_of_picture(hidden) if image else _scene_of_voxels(hidden)
        self.enc.enc_ih = nn.Module()
        self.enc.enc_ih.resnet = nn.Sequential(*list(resnet18(norm_layer=lambda _: nn.Identity()).children())[:-2])
        self.enc.enc_ih.spatial_softmax = nn.Module()
        self.enc.enc_ih.spatial_softmax.nets = nn.Conv2d(512, hidden // 2, 1)
        self.enc.enc_ih.spatial_softmax.register_buffer("temperature", torch.ones(1))
        seen = hidden * [regular] + hidden * [scalar] + 4 * [point.irrep(1)] + 3 * [scalar]
        self.enc.enc_out = en.Linear(en.FieldType(point, seen), en.FieldType(point, hidden * [regular]))
        pairs = [point.irrep(2), *3 * [point.irrep(1)]] if relative else 4 * [point.irrep(1)]
        action = en.FieldType(point, pairs + (5 if relative else 2) * [scalar])
        lifted = en.FieldType(point, 64 * [regular])
        self.diff = nn.Module()
        self.diff.unet = _UNet(64, hidden * self.steps, 16, widths)
        self.diff.out_layer = en.Linear(lifted, action)
        self.diff.enc_a = en.SequentialModule(en.Linear(action, lifted), en.ReLU(lifted))
        affine = {
            "robot0_eef_pos": ([3.0, 3.0, 7.0], [0.0, 0.0, -6.6]),
            "robot0_eef_quat": ([1.0] * 4, [0.0] * 4),
            "robot0_gripper_qpos": ([50.0, 51.0], [-1.0, 1.02]),
            "robot0_eye_in_hand_image": ([2.0], [-1.0]),
            ("agentview_image" if image else "voxels"): ([2.0], [-1.0]) if image else ([1.0], [0.0]),
            "action": ([1.0] * 7, [0.0] * 7) if relative else ([2.9, 2.9, 6.0] + [1.0] * 7, [0, 0, -5.7] + [0.0] * 7),
        }
        self.normalizer = nn.Module()
        self.normalizer.params_dict = nn.ModuleDict()
        for key, (scale, offset) in affine.items():
            node = nn.ParameterDict({"scale": torch.tensor(scale), "offset": torch.tensor(offset)})
            self.normalizer.params_dict[key] = node.requires_grad_(False)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.add_(0.05 * torch.randn_like(parameter))

    def normalised(self, key: str, x: Tensor) -> Tensor:
        node = self.normalizer.params_dict[key]
        return x * node["scale"] + node["offset"]

    def condition(self, obs: dict[str, Tensor], rotation: Tensor) -> Tensor:
        """Stored observations as ours are, and the hand's rotation (B, To, 3, 3) -> (B, To * hidden * N)."""
        batch = rotation.shape[0]
        wrist = (obs["robot0_eye_in_hand_image"].flatten(0, 1).movedim(-1, 1) / 255 * 2 - 1)[..., 4:80, 4:80]
        maps = self.enc.enc_ih.spatial_softmax.nets(self.enc.enc_ih.resnet(wrist)).flatten(2).softmax(-1)
        y, x = torch.meshgrid(torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3), indexing="ij")
        flat = (maps @ torch.stack([x, y], -1).reshape(9, 2)).flatten(1)
        if self.image:
            scene = (obs["agentview_image"].flatten(0, 1).movedim(-1, 1) / 255 * 2 - 1)[..., 4:80, 4:80]
        else:
            scene = obs["voxels"].flatten(0, 1)[..., 3:61, 3:61, 3:61] / 255
        kind = self.enc.enc_obs.conv[0].in_type
        encoded = self.enc.enc_obs.conv(en.GeometricTensor(scene, kind)).tensor.flatten(1)
        place = self.normalised("robot0_eef_pos", obs["robot0_eef_pos"]).flatten(0, 1)
        fingers = self.normalised("robot0_gripper_qpos", obs["robot0_gripper_qpos"]).flatten(0, 1)
        pairs = rotation.flatten(0, 1)[:, :2].transpose(1, 2).flatten(1)
        joined = torch.cat([encoded, flat, place[:, :2], pairs, place[:, 2:], fingers], 1)
        out: Tensor = self.enc.enc_out(en.GeometricTensor(joined, self.enc.enc_out.in_type)).tensor
        return out.view(batch, -1)

    def denoise(self, entries: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """(B, T, 10 or 13): x, y, z, rows of the rotation, gripper."""
        batch, length = entries.shape[:2]
        flat = entries.flatten(0, 1)
        x, y, z, g = flat[:, 0], flat[:, 1], flat[:, 2], flat[:, -1]
        if self.relative:
            m = flat[:, 3:12].view(-1, 3, 3)
            parts = [m[:, 0, 1] + m[:, 1, 0], m[:, 1, 1] - m[:, 0, 0], x, y, m[:, 2, 0], m[:, 2, 1], m[:, 0, 2]]
            parts += [m[:, 1, 2], m[:, 0, 0] + m[:, 1, 1], m[:, 1, 0] - m[:, 0, 1], m[:, 2, 2], z, g]
        else:
            r = flat[:, 3:9].view(-1, 2, 3)
            parts = [x, y, *r.transpose(1, 2).flatten(1).unbind(1), z, g]
        kind = self.diff.out_layer.out_type
        lifted = self.diff.enc_a(en.GeometricTensor(torch.stack(parts, 1), kind)).tensor
        fibres = lifted.view(batch, length, 64, N).permute(0, 3, 2, 1).flatten(0, 1)
        known = condition.view(batch, -1, N).transpose(1, 2).flatten(0, 1)
        out = self.diff.unet(fibres, step.repeat_interleave(N), known)
        out = out.view(batch, N, 64, length).permute(0, 3, 2, 1).reshape(batch * length, -1)
        v = self.diff.out_layer(en.GeometricTensor(out, self.diff.out_layer.in_type)).tensor.unbind(1)
        if self.relative:
            a, b, x, y, m02, m12, m20, m21, s, d, m22, z, g = v  # not in the order of the input: as published
            m = [(s - b) / 2, (a - d) / 2, m02, (a + d) / 2, (s + b) / 2, m12, m20, m21, m22]
            result = torch.stack([x, y, z, *m, g], 1)
        else:
            x, y, *r, z, g = v
            result = torch.stack([x, y, z, r[0], r[2], r[4], r[1], r[3], r[5], g], 1)
        return result.view(batch, length, -1)

    def rotation_vector(self, chunk: Tensor) -> Tensor:
        """(B, T, 3): how the published code stores the rotation of a sampled chunk, true or not."""
        if self.relative:
            return _axis_angle(_quaternion(chunk[..., 3:12].unflatten(-1, (3, 3))))
        a, b = chunk[..., 3:6], chunk[..., 6:9]
        a = nn.functional.normalize(a, dim=-1)
        b = nn.functional.normalize(b - (a * b).sum(-1, keepdim=True) * a, dim=-1)
        return _axis_angle(_quaternion(torch.stack([a, b, torch.linalg.cross(a, b)], -2)))

    def sample(self, condition: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
        """diffusers' own sampler with clipped samples, as published: a chunk in the unit of the normaliser."""
        scheduler: Any = DDPMScheduler(
            num_train_timesteps=100,
            beta_schedule="squaredcos_cap_v2",
            variance_type="fixed_small",
            clip_sample=True,
            prediction_type="epsilon",
        )
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            out = self.denoise(noise, t.expand(len(noise)), condition)
            noise = scheduler.step(out, t, noise, generator=generator).prev_sample
        return noise


def _quaternion(m: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 4), w first and w >= 0: the best of four expressions, not made of unit length."""
    signs = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).to(m)
    twice = (1 + torch.diagonal(m, dim1=-2, dim2=-1) @ signs.T).clamp(min=0).sqrt()  # 2 |w|, 2 |x|, 2 |y|, 2 |z|
    best = twice.argmax(-1)
    out = torch.empty(*m.shape[:-2], 4)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in m.shape[:-2])):
        at, r = tuple(place.tolist()), m[tuple(place.tolist())]
        k, t = int(best[at]), twice[at][best[at]]
        spin = torch.stack([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / (2 * t)
        if k == 0:
            q = torch.cat([t[None] / 2, spin])
        else:
            q = torch.cat([spin[k - 1 : k], (r + r.T)[k - 1] / (2 * t)])
            q[k] = t / 2
        out[at] = -q if q[0] < 0 else q
    return out


def _axis_angle(quaternion: Tensor) -> Tensor:
    w, v = quaternion[..., :1], quaternion[..., 1:]
    half = torch.atan2(v.norm(dim=-1, keepdim=True), w)
    return v / (half.sin() / (2 * half))


def _conv(space: Any, inputs: int, outputs: int, kernel: int, padding: int = 0, **rest: Any) -> en.EquivariantModule:
    kind = space.trivial_repr if rest.pop("scalars", False) else space.regular_repr
    conv = en.R3Conv if isinstance(space, gspaces.GSpace3D) else en.R2Conv
    types = en.FieldType(space, inputs * [kind]), en.FieldType(space, outputs * [space.regular_repr])
    layer = conv(*types, kernel_size=kernel, padding=padding, initialize=False, **rest)
    with torch.no_grad():
        layer.weights.normal_(0, (inputs * kernel) ** -0.5)
    return layer


def _relu(space: Any, channels: int) -> en.EquivariantModule:
    return en.ReLU(en.FieldType(space, channels * [space.regular_repr]))


class _Residual(nn.Module):
    def __init__(self, space: Any, inputs: int, outputs: int) -> None:
        super().__init__()
        first = _conv(space, inputs, outputs, 3, 1)
        self.layer1 = en.SequentialModule(first, _relu(space, outputs))
        self.layer2 = en.SequentialModule(_conv(space, outputs, outputs, 3, 1))
        self.last = _relu(space, outputs)
        short = _conv(space, inputs, outputs, 1, bias=False) if inputs != outputs else None
        self.upscale = None if short is None else en.SequentialModule(short)

    def forward(self, x: en.GeometricTensor) -> en.GeometricTensor:
        return self.last(self.layer2(self.layer1(x)) + (x if self.upscale is None else self.upscale(x)))


def _scene_of_picture(hidden: int) -> nn.Sequential:
    space = gspaces.rot2dOnR2(N)
    widths = [hidden // 8, hidden // 8, hidden // 4, hidden // 2, hidden]
    layers: list[nn.Module] = [_conv(space, 3, widths[0], 5, scalars=True), _relu(space, widths[0])]
    for before, width, pool in zip(widths[:-1], widths[1:], (2, 2, 2, 3), strict=True):
        kind = en.FieldType(space, width * [space.regular_repr])
        layers += [_Residual(space, before, width), _Residual(space, width, width), en.PointwiseMaxPool(kind, pool)]
    return nn.Sequential(*layers, _conv(space, hidden, hidden, 3), _relu(space, hidden))


def _scene_of_voxels(hidden: int) -> nn.Sequential:
    space = gspaces.rot2dOnR3(N)
    layers: list[nn.Module] = []
    before, scalars = 4, True
    for share, paddings in ((16, (0,)), (8, (1, 1)), (4, (0, 1)), (2, (1, 1))):
        width = hidden // share
        for padding in paddings:
            layers += [_conv(space, before, width, 3, padding, scalars=scalars), _relu(space, width)]
            before, scalars = width, False
        layers.append(en.PointwiseMaxPool3D(en.FieldType(space, width * [space.regular_repr]), 2))
    return nn.Sequential(*layers, _conv(space, before, hidden, 3), _relu(space, hidden))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, known: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([_Conv1d(inputs, outputs), _Conv1d(outputs, outputs)])
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(known, 2 * outputs))
        self.residual_conv = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        scale, shift = self.cond_encoder(known).view(len(x), 2, -1, 1).unbind(1)
        out: Tensor = self.blocks[1](scale * self.blocks[0](x) + shift) + self.residual_conv(x)
        return out


class _Conv1d(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv1d(inputs, outputs, 5, padding=2), nn.GroupNorm(8, outputs), nn.Mish())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class _Resample(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _Sines(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, step: Tensor) -> Tensor:
        half = self.size // 2
        phase = step[:, None] * 10000 ** (-torch.arange(half) / (half - 1))
        return torch.cat([phase.sin(), phase.cos()], -1)


class _UNet(nn.Module):
    """Two levels."""

    def __init__(self, channels: int, condition: int, size: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        (a, b), known = widths, size + condition
        self.diffusion_step_encoder = nn.Sequential(
            _Sines(size), nn.Linear(size, 4 * size), nn.Mish(), nn.Linear(4 * size, size)
        )
        half, double = _Resample(nn.Conv1d(a, a, 3, 2, 1)), _Resample(nn.ConvTranspose1d(a, a, 4, 2, 1))
        down = [[_Block(channels, a, known), _Block(a, a, known), half]]
        down.append([_Block(a, b, known), _Block(b, b, known), nn.Identity()])
        self.down_modules = nn.ModuleList(map(nn.ModuleList, down))
        self.mid_modules = nn.ModuleList([_Block(b, b, known), _Block(b, b, known)])
        self.up_modules = nn.ModuleList([nn.ModuleList([_Block(2 * b, a, known), _Block(a, a, known), double])])
        self.final_conv = nn.Sequential(_Conv1d(a, a), nn.Conv1d(a, channels, 1))

    def forward(self, x: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        known = torch.cat([self.diffusion_step_encoder(step), condition], -1)
        skips = []
        for first, second, shrink in self.down_modules:  # type: ignore[misc]
            x = second(first(x, known), known)
            skips.append(x)
            x = shrink(x)
        for block in self.mid_modules:
            x = block(x, known)
        for first, second, grow in self.up_modules:  # type: ignore[misc]
            x = grow(second(first(torch.cat([x, skips.pop()], 1), known), known))
        out: Tensor = self.final_conv(x)
        return out
