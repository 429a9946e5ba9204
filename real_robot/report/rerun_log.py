"""The run as a recording for the rerun viewer (extra `rerun`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from real_robot.records import RecordError
from real_robot.report.load import Run
from real_robot.report.summary import stages, tracking_error
from real_robot.types import Array

__all__ = ["write_rerun"]

_TIMELINE = "run"


def write_rerun(run: Run, path: Path, video: Path | None = None) -> Path:
    """Write `path` (.rrd): poses and path in 3-D, latencies, tracking, gripper, joints, events, and the video.

    Times are seconds since the first record; the video is laid from there on. RecordError if rerun is not installed.
    """
    try:
        import rerun as rr
    except ImportError:
        raise RecordError("rerun is not installed; pip install 'equidiff[rerun]', or leave out rerun=true") from None

    stream = rr.RecordingStream("equidiff_run", make_default=False)
    stream.save(path)
    ticks, plans = run.ticks, run.plans
    t = ticks.t - run.first

    def scalars(name: str, at: Array, values: Array) -> None:
        kept = np.isfinite(values) & np.isfinite(at)
        if kept.any():
            columns = rr.Scalars.columns(scalars=values[kept])
            rr.send_columns(name, [rr.TimeColumn(_TIMELINE, duration=at[kept])], columns, recording=stream)

    for name, poses in (("measured", ticks.pose), ("sent", ticks.sent), ("target", ticks.target)):
        kept = np.isfinite(poses[:, 0])
        if not kept.any():
            continue
        rr.send_columns(
            f"scene/{name}",
            [rr.TimeColumn(_TIMELINE, duration=t[kept])],
            rr.Transform3D.columns(translation=poses[kept, :3], quaternion=poses[kept, 3:]),
            recording=stream,
        )
        rr.log(f"scene/{name}_path", rr.LineStrips3D([poses[kept, :3]]), static=True, recording=stream)
        for i, axis in enumerate("xyz"):
            scalars(f"position/{axis}/{name}", t[kept], poses[kept, i])
    for name, stage in stages(run).items():
        scalars(f"latency/{name}", stage.at - run.first, stage.seconds)
    if len(t) > 1:
        metres, radians = tracking_error(ticks)
        scalars("tracking/metres", t, metres)
        scalars("tracking/radians", t, radians)
    scalars("gripper/measured", t, ticks.gripper[:, 0])
    scalars("gripper/sent", t, ticks.gripper[:, 1])
    for i in range(ticks.joints.shape[1]):
        scalars(f"joints/{i}", t, ticks.joints[:, i])
    for i, axis in enumerate(("fx", "fy", "fz", "mx", "my", "mz")):
        scalars(f"wrench/{axis}", t, ticks.wrench[:, i])
    scalars("plans/late_actions", plans.requested - run.first, plans.late.astype(np.float64))
    _events(rr, stream, run)
    if video is not None:
        asset = rr.AssetVideo(path=video)
        rr.log("video", asset, static=True, recording=stream)
        stamps = asset.read_frame_timestamps_nanos()
        rr.send_columns(
            "video",
            [rr.TimeColumn(_TIMELINE, duration=1e-9 * stamps)],
            rr.VideoFrameReference.columns_nanos(stamps),
            recording=stream,
        )
    stream.flush(blocking=True)
    stream.disconnect()
    return path


def _events(rr: Any, stream: Any, run: Run) -> None:
    notes = [(n.t, f"{n.texts['source']} to {n.texts['target']}: {n.texts['why']}", "INFO") for n in run.transitions]
    notes += [(n.t, f"{n.texts['name']}: {n.texts['detail']}", "ERROR") for n in run.faults]
    notes += [(n.t, n.texts["text"], "WARN") for n in run.markers]
    for t, text, level in sorted(notes):
        stream.set_time(_TIMELINE, duration=t - run.first)
        rr.log("events", rr.TextLog(text, level=level), recording=stream)
