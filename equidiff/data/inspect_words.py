"""The symmetry report in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from equidiff.data.inspect_circle import Centre
from equidiff.data.inspect_poses import GRIPPER
from equidiff.data.inspect_views import CameraView

if TYPE_CHECKING:
    from equidiff.data.inspect_symmetry import ActionSymmetry, StartSymmetry

__all__ = ["judge", "start_words"]

_FEW = 8
_EXTRAPOLATES = (
    "Turning such a demonstration about the centre gives scenes that the file never shows. An equivariant policy "
    "answers them with the turned action: right where table, reach and dynamics are the same there, but this file "
    "cannot show it. On starts like its own the symmetry contradicts nothing; whether it helps must be measured."
)


def judge(
    starts: Sequence[StartSymmetry],
    actions: ActionSymmetry | None,
    best: Centre | None,
    cameras: Sequence[CameraView],
    centre: tuple[float, float],
) -> tuple[str, list[str]]:
    """(verdict, sentences). The verdict is about the start states; views and actions only add sentences."""
    objects = [s for s in starts if s.name != GRIPPER]
    if not objects:
        verdict = "too few to say"
        words = ["The file holds no object poses, so nothing can be said about how evenly scenes are spread."]
    elif max(s.n for s in objects) < _FEW:
        verdict = "too few to say"
        words = [f"Fewer than {_FEW} demonstrations: too few to say whether the starts are even about the centre."]
    else:
        # one-sided: the data do not show what the symmetry promises; uneven: they show it more on some sides
        bad = [s for s in objects if s.around.one_sided or (s.fixed and not _at_centre(s))]
        uneven = [s for s in objects if s not in bad and not (s.fixed or s.around.even)]
        turned = [s for s in objects if s.yaw is not None and (s.yaw_fixed or not s.yaw.even)]
        off = best is not None and not best.consistent and best.offset > 0.02
        verdict = "does not hold" if bad else "partly" if uneven or turned or off else "holds"
        words = [_HEAD[verdict].format(n=max(s.n for s in objects))]
    words += [start_words(s) for s in starts]
    if verdict in ("does not hold", "partly"):
        words.append(_EXTRAPOLATES)
    words += _centre_words(best, centre)
    if actions is not None and actions.net.n >= _FEW:
        words.append(_action_words(actions))
    words += [f"Camera {c.name}: {_EXACT[c.exact]} ({c.why})." for c in cameras]
    words.append(_gravity(starts))
    return verdict, words


_HEAD = {
    "holds": "Over {n} demonstrations the objects start evenly about the centre, in place and in yaw: the data show "
    "what the symmetry assumes.",
    "partly": "The objects start on all sides of the centre, but over {n} demonstrations not evenly in place, in yaw "
    "or about this centre.",
    "does not hold": "Warning: the starts are not symmetric about the centre over {n} demonstrations; the symmetry is "
    "an assumption here that the data do not show.",
}
_EXACT = {"yes": "exact", "approximate": "only approximately equivariant", "unknown": "not known"}


def start_words(start: StartSymmetry) -> str:
    """One sentence about where a thing starts and how it is turned."""
    who, around = ("The gripper" if start.name == GRIPPER else start.name), start.around
    where = _degrees(around.direction)
    if start.fixed:
        place = "at the centre" if _at_centre(start) else f"near one place, seen from the centre at {where}"
        text = f"{who} always starts {place} (it varies by {1000 * start.spread.deviation:.0f} mm)"
    elif start.n < _FEW:
        text = f"{who}: {start.n} demonstrations, too few to say"
    elif around.one_sided:
        text = (
            f"{who} starts on one side of the centre, mean direction {where} (resultant {around.resultants[0]:.2f}, "
            f"widest empty arc {_degrees(around.empty_arc)})"
        )
    elif not around.even:
        p = min(around.rayleigh_p, around.kuiper_p)
        text = f"{who} starts on all sides but not evenly (p = {p:.2g}, more towards {where})"
    else:
        text = f"{who} starts evenly about the centre (resultant {around.resultants[0]:.2f})"
    if start.yaw is None:
        return f"{text}; its yaw is not in the file."
    period = "" if start.fold == 1 else f" (modulo {360 / start.fold:.0f}°)"
    if start.yaw_fixed:
        return f"{text}; it is always turned the same way{period}."
    if start.n < _FEW:
        return f"{text}."
    if start.yaw.even:
        return f"{text}; its yaw is even{period}."
    return f"{text}; its yaw is not even{period}: resultant {start.yaw.resultants[0]:.2f} about " + (
        f"{_degrees(start.yaw.direction)}, widest empty arc {_degrees(start.yaw.empty_arc)} of {360 / start.fold:.0f}°."
    )


def _at_centre(start: StartSymmetry) -> bool:
    """Fixed, and on average within 1 cm of the centre."""
    return start.fixed and bool(start.offset * _size(start) < 0.01)


def _size(start: StartSymmetry) -> float:
    """Root mean square distance from the centre: sqrt(2 deviation^2 / (1 - offset^2)) where it varies."""
    rest = 1 - start.offset**2
    return start.spread.deviation * math.sqrt(2 / rest) if rest > 1e-9 else math.inf


def _centre_words(best: Centre | None, centre: tuple[float, float]) -> list[str]:
    if best is None:
        return ["No start position varies, so the data do not tell where the centre is."]
    x, y = best.xy
    text = (
        f"Best centre from the data: ({x:+.3f}, {y:+.3f}) m, 95 % within {100 * best.radius95:.1f} cm "
        f"(from {', '.join(best.groups)}); the configured ({centre[0]:+.3f}, {centre[1]:+.3f}) is "
        f"{100 * best.offset:.1f} cm away, "
    )
    text += "which the data cannot tell from zero." if best.consistent else "more than chance explains."
    if not best.agree:
        text += " The things do not share one centre: their own means differ by more than chance explains."
    return [text]


def _action_words(actions: ActionSymmetry) -> str:
    low, high = actions.interval
    even = "go evenly in all directions" if actions.net.even else f"prefer {_degrees(actions.net.direction)}"
    return (
        f"Horizontal motions of whole demonstrations {even} (resultant {actions.net.resultants[0]:.2f}); single steps "
        f"have the ratio {actions.ratio:.2f} ({low:.2f} to {high:.2f}) of weakest to strongest direction, 1 if even."
    )


def _gravity(starts: Sequence[StartSymmetry]) -> str:
    measured = [(s.name, *s.slope) for s in starts if s.slope is not None and s.name != GRIPPER]
    base = "The axis of the symmetry is the world's z, which must be the direction of gravity"
    if not measured:
        return f"{base}; the start positions do not tell whether it is."
    name, slope, error = min(measured, key=lambda m: m[2])
    if slope < max(0.5, 3 * error):
        return f"{base}: {name} starts on a level plane ({slope:.2f}° ± {error:.2f}°), as it should."
    return (
        f"{base}: but the start positions of {name} lie on a plane {slope:.1f}° ± {error:.1f}° off the horizontal. "
        "Check the frame of the data."
    )


def _degrees(angle: float) -> str:
    return f"{math.degrees(angle):.0f}°"
