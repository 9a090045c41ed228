"""Pictures of records, as Plotly's figures: what the page shows is what a tracker gets.

`build(records, prices)` gives a mapping from a name to a figure. A name is a kind, a slash and what it shows:

    latency/matvec  throughput/... device/... end_to_end/... h2d/...   time of a call against size
    speedup/matvec float32 highest                                     per place where the data lives
    roofline/gpu                                                       every case under measured ceilings
    parts/matvec float32 highest                                       where the time goes
    energy/matmul  cost/matvec                                         where measured, where prices were given
    samples/matvec 1024 on the gpu                                     of a flagged arm, in order, by pass

Numbers are SI; ticks and hovers have units for people. Each trace says in `meta` which workload, dtype and
precision it is of. Plotly itself is imported only by `build`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.findings import families
from jaxaccel.analyze.machines import standing
from jaxaccel.render.figures.drawing import Drawing
from jaxaccel.render.figures.parts import draw_parts
from jaxaccel.render.figures.roofline import draw_rooflines
from jaxaccel.render.figures.samples import draw_samples, flagged
from jaxaccel.render.figures.speedups import draw_speedups
from jaxaccel.render.figures.times import draw_costs, draw_energy, draw_times

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from jaxaccel.analyze.findings import Family
    from jaxaccel.analyze.money import Prices
    from jaxaccel.records import Record

MOST_SAMPLES = 8  # flagged arms whose samples `build` draws: the page has all of them


def build(
    records: "Sequence[Record]", prices: "Prices | None" = None, *, samples: int = MOST_SAMPLES
) -> "dict[str, Figure]":
    """Figures of records, by name; none where nothing was measured. Machines are lines of their own.

    `samples` is how many flagged arms have theirs drawn, the most flagged first.
    """
    from plotly.graph_objects import Figure

    drawings = draw(records, families(pair(records)), prices)
    worst = sorted(flagged(records), key=lambda record: -len(record.warnings))[:samples]
    return {
        drawing.name: Figure(data=drawing.data, layout=drawing.layout)
        for drawing in [*drawings, *draw_samples(worst)]
    }


def draw(
    records: "Sequence[Record]", found: "Sequence[Family]", prices: "Prices | None" = None
) -> list[Drawing]:
    """All but the samples, as the plain data that a Figure takes. `found` are the records' families."""
    placed = standing(records)
    return [
        *draw_times(placed, found),
        *draw_speedups(found),
        *draw_parts(placed),
        *draw_rooflines(placed),
        *draw_energy(placed),
        *(draw_costs(placed, prices) if prices else []),
    ]
