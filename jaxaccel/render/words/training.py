"""What came of trainings, in words and in a table of feeds: for the terminal and for Markdown alike."""

from collections.abc import Sequence

from jaxaccel.analyze.training import (
    HELD_OUT,
    LOSS,
    Overlap,
    Training,
    curves,
    overlap,
    trainings,
)
from jaxaccel.records import DEVICES, Comparison, Metric, Record, Verdict
from jaxaccel.render.words.numbers import brief, ratio, seconds
from jaxaccel.render.words.sections import Section

HEAD = ("an epoch by feed", "CPU", "GPU", "CPU / GPU", "CPU / first feed", "GPU / first feed")
UNKNOWN = "–"
ADDED = "The two parts are {:.0%} of the shorter one off the whole"
NOISY = "What is hidden can't be told: the two parts do not add up to the whole"
UNSURE = "What is hidden can't be told: no difference is sure"


def sections(comparisons: Sequence[Comparison]) -> list[Section]:
    """One of each training among comparisons."""
    return [_section(each) for each in trainings(comparisons)]


def _section(training: Training) -> Section:
    case = training.case
    params = " ".join(f"{name}={value}" for name, value in case.params.items() if name != "feed")
    first = next(iter(training.feeds))
    return Section(
        title=f"training {case.size} {params}",
        head=HEAD,
        rows=tuple(_row(training, feed, first) for feed in training.feeds),
        lines=(*_followed(training), *_hidden(training)),
    )


def _row(training: Training, feed: str, first: str) -> tuple[str, ...]:
    times = {device: training.epoch_s(feed, device) for device in DEVICES}
    speedup = training.feeds[feed].speedups.get(Metric.latency)
    firsts = {device: training.epoch_s(first, device) for device in DEVICES}
    shares = [
        UNKNOWN if (took := times[device]) is None or not (base := firsts[device]) else ratio(took / base)
        for device in DEVICES
    ]
    return (
        feed,
        *(seconds(times[device]) for device in DEVICES),
        f"{ratio(speedup.ratio)} ({speedup.verdict})" if speedup else UNKNOWN,
        *shares,
    )


def _followed(training: Training) -> list[str]:
    """The loss, the accuracy, and whether two devices agree: of the first feed, for all train alike."""
    lines = []
    for row in training.feeds.values():
        sides = [record for record in row.arms if record.ok and record.series.get(LOSS)]
        if not sides:
            continue
        lines += [_trained(record) for record in sides]
        if found := curves(row.cpu, row.gpu):
            how = "" if found.agree else ", more than is tolerated where they are checked"
            lines.append(
                f"the losses of the two are at most {found.difference:.1e} of the loss apart (epoch "
                f"{found.epoch}){how}; each may be half of {found.tolerance:.1e} off {found.reference}"
            )
        break
    return lines


def _trained(record: Record) -> str:
    losses, right = record.series[LOSS], record.results.get(HELD_OUT)
    told = "" if right is None else f"; {right:.1%} of the samples held out are told rightly"
    name = record.arm.requested.upper()
    return f"{name}: in {len(losses)} epochs the loss goes from {losses[0]:.4f} to {losses[-1]:.4f}{told}"


def _hidden(training: Training) -> list[str]:
    lines = []
    for device in DEVICES:
        if found := overlap(training, device):
            parts = f"preparing {seconds(found.prepare_s)}, copies and steps {seconds(found.work_s)}"
            hiding = "; ".join(_hiding(found, feed) for feed in found.hiding_s)
            told = any(found.tells(feed) for feed in found.hiding_s)
            end = NOISY if not found.adds_up else ADDED.format(abs(found.left_over)) if told else UNSURE
            lines.append(
                f"{device.upper()}: {parts}, one after the other {seconds(found.serial_s)}; {hiding}. {end}"
            )
    return lines


def _hiding(found: Overlap, feed: str) -> str:
    """A feed beside `serial`: by how much, how many times as fast, and whether that is sure."""
    gain, epoch_s = found.gains.get(feed), found.hiding_s[feed]
    words = [f"{epoch_s / found.serial_s - 1:+.0%}"]
    if gain and gain.ci95:
        low, high = map(brief, gain.ci95)
        words.append(f"{ratio(gain.ratio)} [{low}, {high}] as fast")
        words += ["within one process"] if gain.ci_over == "rounds" else []
    if gain is None or gain.verdict is Verdict.undecided:
        words.append("undecided")
    hides = f", which hides {found.hidden(feed):.0%} of the shorter part" if found.tells(feed) else ""
    return f"{feed} {seconds(epoch_s)} ({', '.join(words)}){hides}"
