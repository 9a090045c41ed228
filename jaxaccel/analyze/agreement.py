"""Whether two devices computed the same, by sketches of their outputs. Pure.

A sketch holds projections of an array on 16 vectors of random signs (see worker/sketch.py): the norm of two
sketches' difference over √16 estimates that of the arrays, within 18% or so.
"""

import math
from dataclasses import dataclass

from jaxaccel.records import Accuracy, Comparison, LeafSketch, Record

DIFFERENT = "the two devices do not compute the same"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far apart two outputs are, relative to the larger norm: of the array that differs most.

    relative_difference: None where they can't be set against each other at all, for which `reason` says why.
    """

    relative_difference: float | None
    tolerance: float
    reason: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.reason is None

    @property
    def words(self) -> str | None:
        """What is wrong, in a sentence; None where nothing is."""
        return None if self.reason is None else f"{DIFFERENT}: {self.reason}"


def agreement(first: Record | None, second: Record | None) -> Agreement | None:
    """How the outputs of two records of one case differ; None where one of them has no sketch.

    **Raises** ValueError where they are of two cases.
    """
    sides = [record.accuracy if record and record.ok else None for record in (first, second)]
    if first and second and first.case_id != second.case_id:
        raise ValueError(f"these records are of different cases: {first.case} and {second.case}")
    if sides[0] is None or sides[1] is None or not (sides[0].sketch and sides[1].sketch):
        return None
    return _compare(sides[0], sides[1])


def of_pair(comparison: Comparison) -> Agreement | None:
    """How the two sides of a comparison differ."""
    return agreement(comparison.cpu, comparison.gpu)


def difference(first: LeafSketch, second: LeafSketch, largest: float = 0.0) -> float:
    """The estimated norm of the difference of two arrays over the larger of their norms.

    Where it is rounding beside the larger arrays of the answer, it is taken relative to the norm of these,
    `largest`.
    """
    larger = max(first.norm or 0.0, second.norm or 0.0)
    apart = [p - q for p, q in zip(first.projections, second.projections, strict=True)]
    if larger == 0 or not apart:
        return 0.0
    norm = math.hypot(*apart) / math.sqrt(len(apart))
    return norm / (max(largest, larger) if norm <= max(first.negligible, second.negligible) else larger)


def _compare(first: Accuracy, second: Accuracy) -> Agreement:
    whole = max(first.tolerance, second.tolerance)
    worst, granted = 0.0, whole

    def apart(reason: str) -> Agreement:
        return Agreement(relative_difference=None, tolerance=whole, reason=reason)

    if first.inputs and second.inputs and first.inputs != second.inputs:
        return apart(
            "they were given different numbers: the function that makes the arguments returns other numbers "
            "on each device"
        )
    forms = [[(leaf.path, leaf.shape, leaf.dtype) for leaf in side.sketch] for side in (first, second)]
    if forms[0] != forms[1]:
        return apart("their outputs are of other shapes or types")
    largest = max((leaf.norm or 0.0 for side in (first, second) for leaf in side.sketch), default=0.0)
    for one, other in zip(first.sketch, second.sketch, strict=True):
        name = one.path or "the output"
        if one.not_finite != other.not_finite:
            return apart(f"{one.not_finite} and {other.not_finite} elements of {name} are not finite")
        if one.digest != other.digest:
            what = "places of the NaN or infinite elements" if one.not_finite else "integers"
            return apart(f"the {what} of {name} are not equal")
        error = difference(one, other, largest)
        limits = [whole if leaf.tolerance is None else leaf.tolerance for leaf in (one, other)]
        # Over its tolerance is worse than within it; of two such, the farther over.
        if _over(error, max(limits)) > _over(worst, granted):
            worst, granted = error, max(limits)
    wrong = f"their outputs differ by {worst:.1e}, and {granted:.1e} is tolerated"
    return Agreement(relative_difference=worst, tolerance=granted, reason=None if worst <= granted else wrong)


def _over(error: float, tolerance: float) -> float:
    """How many times the tolerance an error is; a tolerance of 0 is exceeded by any."""
    return error / tolerance if tolerance else math.inf if error else 0.0
