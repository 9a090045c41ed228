import json

import golden
import pytest

ACCEPTED = json.loads(golden.GOLDEN.read_text())


def test_every_published_folder_has_golden_outputs() -> None:
    assert list(ACCEPTED) == golden.folders()


@pytest.mark.slow
@pytest.mark.parametrize("folder", ACCEPTED)
def test_commands_say_about_published_records_what_they_said_before(folder: str) -> None:
    outputs = golden.outputs(folder)
    assert set(outputs) == set(ACCEPTED[folder])
    changed = {
        name: difference
        for name, lines in outputs.items()
        if (difference := golden.first_difference(lines, ACCEPTED[folder][name]))
    }
    assert not changed, "\n".join(f"{name}: {difference}" for name, difference in changed.items())
