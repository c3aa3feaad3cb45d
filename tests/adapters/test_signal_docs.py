"""The table of presets in the documentation is the presets."""

import re
from pathlib import Path

from scaler.adapters.prometheus.presets import PRESETS

NONE = "\N{EN DASH}"
PAGE = Path(__file__).parent.parent.parent / "docs" / "signals.md"


def test_the_documented_presets_are_the_presets() -> None:
    rows = re.findall(r"^\| ([\w-]+) \| ([\w, ]+) \| ([\w, ]+) \| (yes|no) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    documented = {
        name: (set(labels.split(", ")), set(units.split(", ")), known == "yes", set(signals.split(", ")) - {NONE})
        for name, labels, units, known, signals in rows
    }
    assert documented == {
        name: (
            {label for label in (preset.namespace_label, preset.name_label) if label},
            set(preset.demand),
            preset.seen_at_zero_replicas,
            set(preset.per_replica),
        )
        for name, preset in PRESETS.items()
    }
