"""Write the sample histories: python data/generate.py [--days 28] [--out data/samples].

The same arguments give the same bytes. What the kinds are like stands in scaler/app/demo/traffic.py.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from scaler.adapters.traces import write_trace
from scaler.app.demo.traffic import KINDS, generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--start", type=datetime.fromisoformat, default=datetime(2026, 2, 16, tzinfo=UTC))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "samples")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    together = {}
    for kind in KINDS:
        series = generate(kind, seed=arguments.seed, start=arguments.start, days=arguments.days)
        write_trace(arguments.out / f"{kind}.csv.gz", {"": series})
        together[kind] = series
        print(f"{arguments.out / kind}.csv.gz: {len(series)} minutes, {series.counts().sum():.0f} requests")
    write_trace(arguments.out / "fleet.csv.gz", together)


if __name__ == "__main__":
    main()
