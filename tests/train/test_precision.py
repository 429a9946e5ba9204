"""Half precision: chosen where it pays, refused where it is emulated, resumed as exactly as any other run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from training_toys import assert_same, metrics, settings, trainer, weights

from equidiff.checkpoint import load_resume
from equidiff.denoisers import GroupMLP
from equidiff.encoders import PointCloudEncoder, SceneImageEncoder, VoxelEncoder
from equidiff.fields import Displacement, Image, PointCloud, Voxels
from equidiff.spec import Horizon, Space, Spec
from equidiff.symmetry import Symmetry
from equidiff.testing import random_batch
from equidiff.train import Trainer, TrainError
from equidiff.train.precision import choose_precision, cpu_flags

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CPU that says it computes in bf16; and accelerate takes one precision a process, so it begins anew."""
    monkeypatch.setattr("equidiff.train.precision.cpu_flags", lambda: frozenset({"amx_bf16"}))
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.mark.parametrize(
    "network",
    [
        lambda spec: SceneImageEncoder(spec, Symmetry(4), "picture", channels=8, widths=(4, 6), pools=(2, 2), blocks=1),
        lambda spec: VoxelEncoder(spec, Symmetry(4), "voxels", channels=8, widths=(4, 6), paddings=((1,), (1, 1))),
        lambda spec: PointCloudEncoder(spec, Symmetry(4), "cloud", channels=8, widths=(6, 8)),
    ],
    ids=["scene", "voxels", "points"],
)
def test_the_networks_of_pictures_compute_in_bf16(network: Callable[[Spec], nn.Module]) -> None:
    fields = (
        Image("picture", height=24, width=24),
        Voxels("voxels", size=16),
        PointCloud("cloud", points=40),
    )
    spec = Spec(Space(fields), Space((Displacement("a"),)), Horizon())
    torch.manual_seed(0)
    encoder = network(spec)
    raw = random_batch(spec, 2, torch.Generator().manual_seed(0), torch.float32)["obs"]
    given = spec.observation.decode_arrays(raw)[encoder.key].float()
    exact = encoder(given).detach()
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(given)
    assert float((rough.detach() - exact).abs().max()) < 0.05 * float(exact.abs().max())
    rough.float().square().mean().backward()
    assert {p.grad.dtype for p in encoder.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.parametrize(
    ("asked", "device", "native", "chosen"),
    [
        ("auto", CUDA, True, "bf16"),
        ("auto", CUDA, False, "no"),
        ("auto", CPU, True, "no"),
        ("auto", torch.device("mps"), True, "no"),
        ("no", CUDA, True, "no"),
        ("bf16", CUDA, True, "bf16"),
        ("fp16", CUDA, False, "fp16"),
    ],
)
def test_the_choice(
    monkeypatch: pytest.MonkeyPatch, asked: str, device: torch.device, native: bool, chosen: str
) -> None:
    monkeypatch.setattr("equidiff.train.precision.gpu_computes_bf16", lambda: native)
    assert choose_precision(asked, device) == chosen


def test_auto_is_never_bf16_on_a_cpu(amx: None) -> None:
    assert choose_precision("auto", CPU) == "no"
    assert choose_precision("bf16", CPU) == "bf16"


def test_what_is_emulated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equidiff.train.precision.gpu_computes_bf16", lambda: False)
    monkeypatch.setattr("equidiff.train.precision.cpu_flags", lambda: frozenset({"avx2", "amx_fp16"}))
    with pytest.raises(TrainError, match=r"bf16 on a GPU that only emulates it.*mixed_precision=no or fp16"):
        choose_precision("bf16", CUDA)
    with pytest.raises(TrainError, match=r"bf16 on a CPU without amx_bf16 is far slower.*mixed_precision=no"):
        choose_precision("bf16", CPU)
    with pytest.raises(TrainError, match=r"fp16 needs a GPU.*mixed_precision=no"):
        choose_precision("fp16", CPU)


def test_flags_of_the_cpu(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags\t\t: fpu avx2 amx_bf16\n")
    assert cpu_flags(str(file)) == {"fpu", "avx2", "amx_bf16"}
    assert cpu_flags(str(tmp_path / "none")) == frozenset()


def test_bf16_trains_and_resumes_exactly(tmp_path: Path, amx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 5 in bf16. Networks compute in it; targets, loss, weights and optimiser stay float32."""
    seen: dict[str, torch.dtype] = {}
    forward = GroupMLP.forward

    def watched(self: GroupMLP, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        out = forward(self, noisy, step, condition)
        if self.training:  # what is saved was tried in float32
            seen.update(noisy=noisy.dtype, out=out.dtype)
        return out

    monkeypatch.setattr(GroupMLP, "forward", watched)
    config = {"max_steps": 2, "mixed_precision": "bf16", "valid_every": None}
    trainer(tmp_path / "whole", settings(**config)).run()
    assert seen == {"noisy": torch.float32, "out": torch.bfloat16}
    trainer(tmp_path / "parts", settings(**config, stop_after=1)).run()
    trainer(tmp_path / "parts", settings(**config)).run(resume=True)
    for name in ("final", "last"):
        assert_same(tmp_path / "whole/checkpoints" / name, tmp_path / "parts/checkpoints" / name)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    stored = weights(tmp_path / "whole/checkpoints/last")
    assert not {value.dtype for value in stored.values()} & {torch.bfloat16, torch.float16}


def test_another_precision_is_another_run(tmp_path: Path) -> None:
    trainer(tmp_path, settings(mixed_precision="auto", stop_after=2)).run()
    run = trainer(tmp_path)  # auto means "no" here, so this is the same run
    run.precision = "bf16"
    with pytest.raises(TrainError, match=r"trainer.mixed_precision: 'no' there, 'bf16' now"):
        run.run(resume=True)
    assert trainer(tmp_path).run(resume=True).finished


def test_the_scale_of_fp16_is_saved_and_restored(tmp_path: Path) -> None:
    """Accelerate makes the scaler on a GPU only; here it is put in, and grows at every step."""

    def scaled(run_dir: Path, **changed: int) -> Trainer:
        run = trainer(run_dir, settings(**changed))
        run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)  # type: ignore[assignment]
        return run

    scaled(tmp_path / "whole").run()
    scaled(tmp_path / "parts", stop_after=3).run()
    there = load_resume(tmp_path / "parts/checkpoints/last")["state"]["scaler"]
    assert (there["scale"], there["_growth_tracker"]) == (8.0, 1)
    scaled(tmp_path / "parts").run(resume=True)
    states = [load_resume(tmp_path / part / "checkpoints/last")["state"]["scaler"] for part in ("whole", "parts")]
    assert states[0] == states[1]
    assert states[0]["scale"] == 16.0
    assert_same(tmp_path / "whole/checkpoints/last", tmp_path / "parts/checkpoints/last")
