"""What a search for crossovers found, as rows and in words."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxaccel.analyze.crossover import Answer, Bracket
from jaxaccel.analyze.crossover_config import CrossoverConfig
from jaxaccel.records import Case, Verdict
from jaxaccel.records.store import write_whole
from jaxaccel.render.files import case_columns, csv_text, json_text

CROSSOVER = "crossover"


def save_crossovers(
    case: Case, settings: CrossoverConfig, answers: Sequence[Answer], folder: Path
) -> list[Path]:
    """Write `folder`/crossover.csv and .json: a row a bracket, and one for a question without any."""
    table = rows(case, settings, answers)
    paths = [folder / f"{CROSSOVER}.{kind}" for kind in ("csv", "json")]
    for path, text in zip(paths, (csv_text(table), json_text(table)), strict=True):
        write_whole(path, text.encode())
    return paths


def rows(case: Case, settings: CrossoverConfig, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """A row a bracket, and one for a question without any; sizes are those that were searched over."""
    params = {name: value for name, value in case.params.items() if name != settings.over}
    columns = case_columns(replace(case, params=params))
    del columns["case_id"]
    if settings.over == "size":
        del columns["size"]
    return [
        columns
        | {
            "over": settings.over,
            "searched_low": answer.low,
            "searched_high": answer.high,
            "question": answer.question,
            "throughout": str(answer.throughout) if not answer.brackets else None,
            "sure": answer.sure,
            "sizes": answer.sizes,
            "below": bracket and str(bracket.below),
            "above": bracket and str(bracket.above),
            "bracket_low": bracket and bracket.low,
            "bracket_high": bracket and bracket.high,
            "at": bracket and bracket.at,
            "ties": bracket and " ".join(map(str, bracket.ties)),
        }
        for answer in answers
        for bracket in answer.brackets or [None]
    ]


def in_words(answer: Answer) -> list[str]:
    """A line a bracket; or who wins throughout."""
    if answer.brackets:
        return [_bracket(bracket) for bracket in answer.brackets]
    if answer.throughout is Verdict.undecided:
        return ["nobody surely wins at any size"]
    if answer.sure == answer.sizes:
        return [f"{answer.throughout} throughout"]
    return [f"{answer.throughout} where anybody does: at {answer.sure} of {answer.sizes} sizes"]


def _bracket(bracket: Bracket) -> str:
    return f"{bracket.below} up to {bracket.low}, {bracket.above} from {bracket.high} on"
