"""What a check of the self-test found, and when a share of trials is too low to be chance."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Inconclusive is no failure: chance could have made the finding."""

    passed = "passed"
    failed = "failed"
    inconclusive = "inconclusive"
    skipped = "skipped"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the self-test: what was to be found, and what was."""

    name: str
    expected: str
    found: str
    outcome: Outcome


def share(name: str, successes: int, trials: int, *, at_least: float, note: str = "") -> Check:
    """A Check that at least a share of trials succeeded.

    It fails only where a one-sided binomial test rejects that share at 1%; below the share, but not so far,
    it is inconclusive.
    """
    from scipy.stats import binomtest  # heavy, and only the self-test needs it

    found = successes / trials
    if found >= at_least:
        outcome = Outcome.passed
    elif binomtest(successes, trials, at_least, alternative="less").pvalue >= 0.01:
        outcome = Outcome.inconclusive
    else:
        outcome = Outcome.failed
    return Check(
        name=name,
        expected=f"at least {at_least:.0%} of {trials}",
        found=f"{found:.1%}{', ' if note else ''}{note}",
        outcome=outcome,
    )


def holds(name: str, condition: bool, *, expected: str, found: str) -> Check:
    """A Check that is true or not."""
    return Check(
        name=name, expected=expected, found=found, outcome=Outcome.passed if condition else Outcome.failed
    )
