"""How long it takes: the replay of every setting, a decision, a turn of a fleet, and `headstart replay` of a week.

    HEADSTART_TRACES=/path/to/traces python benchmarks/speed.py

On the first busy trace of benchmarks/control.py (without HEADSTART_TRACES: a generated endpoint). CPU seconds of one
core; the whole command as wall seconds too, which other work on the machine prolongs.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from control import STEPS_A_DAY, Case, cases

from scaler.core.decide import decide
from scaler.cycle import TURN, Cycle, look_back, prior_profile
from scaler.domain.policy import ScalingPolicy
from scaler.simulator.arrivals import StepDemand, StepGrid
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.lane import Lane
from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor
from scaler.simulator.selfreplay.replayer import EndpointReplay
from scaler.simulator.startups import StartupModel
from scaler.simulator.world import FixedPolicies, MemoryLog, SimulatedClock, SimulatedSource, SimulatedTarget, World

OBJECTIVE = 0.99
N_ENDPOINTS = 1000
WARM_STEPS = 240
TEST_DAYS = 7


@contextmanager
def cpu_seconds(label: str, each: int = 1) -> Iterator[None]:
    began = time.process_time()
    yield
    print(f"{label:66s} {(time.process_time() - began) / each:8.3f} s", flush=True)


def replay_of_settings(case: Case) -> None:
    """Every setting over two days, and all around it but the fits."""
    policy = case.policy(OBJECTIVE)

    def replay() -> EndpointReplay:
        made = EndpointReplay(policy, prior_profile(policy), case.start, TURN, reactive_only=True)
        made.rows.append(case.series())
        return made

    replay().catch_up(STEPS_A_DAY, STEPS_A_DAY // 24)  # compiles
    whole = replay()
    with cpu_seconds(f"{len(whole.family.settings)} settings replayed, a day", each=2):
        whole.catch_up(2 * STEPS_A_DAY, STEPS_A_DAY // 24)


def fleet(case: Case) -> tuple[Cycle, World]:
    """The cycle over N_ENDPOINTS times the same demand, an hour after its start."""
    grid = StepGrid(start=case.start, step=TURN, n_steps=STEPS_A_DAY)
    work = case.work[:STEPS_A_DAY]
    demand = StepDemand(grid=grid, work=work, seen=~np.isnan(case.seen[:STEPS_A_DAY]))
    policy = case.policy(OBJECTIVE)
    policies = tuple(named(policy, f"endpoint-{k}") for k in range(N_ENDPOINTS))
    clock = SimulatedClock(time=grid.time(WARM_STEPS))
    lanes = {
        policy.endpoint: Lane(
            work[WARM_STEPS:],
            step_seconds=TURN.total_seconds(),
            capacity_per_second=case.per_replica,
            startup=StartupModel(typical=case.startup),
            rng=np.random.default_rng(0),
            ready=1,
        )
        for policy in policies
    }
    world = World(clock=clock, grid=grid, first=WARM_STEPS, demand=dict.fromkeys(lanes, demand), lanes=lanes)
    source = SimulatedSource(world, dict.fromkeys(lanes, policy.spec.demand.unit))
    log = MemoryLog(look_back=look_back(policy))
    cycle = Cycle(
        clock=clock,
        policies=FixedPolicies(policies=policies),
        source=source,
        target=SimulatedTarget(world),
        advisor=SelfReplayAdvisor(),
        log=log,
    )
    return cycle, world


def named(policy: ScalingPolicy, name: str) -> ScalingPolicy:
    return policy.model_copy(update={"metadata": policy.metadata.model_copy(update={"name": name})})


def turns_of_a_fleet(case: Case) -> None:
    cycle, world = fleet(case)
    report = cycle.turn()  # makes the rows of an hour
    world.advance()
    with cpu_seconds(f"a turn of {N_ENDPOINTS} endpoints: read, advise, decide, order, log"):
        cycle.turn()
    snapshots = [record.snapshot for record in report.records]
    with cpu_seconds(f"{N_ENDPOINTS} decisions"):
        for snapshot in snapshots:
            decide(snapshot)


def week_of_one_endpoint(case: Case, folder: Path) -> None:
    """`headstart replay`: seven days (fewer where the trace is short) with every baseline and the bound."""
    minutes = case.work.reshape(-1, 4).sum(axis=1)
    stamps = int(case.start.timestamp()) + 60 * np.arange(len(minutes))
    pd.DataFrame({"timestamp": stamps, "requests": minutes}).to_csv(folder / "trace.csv", index=False)
    policy = case.policy(OBJECTIVE).model_dump(mode="json", by_alias=True)
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    days = min(TEST_DAYS, len(minutes) // 1440 - 1)
    warm_up = timedelta(minutes=len(minutes)) - timedelta(days=days)
    command = [sys.executable, "-m", "scaler", "replay", "--policy", str(folder / "policy.yaml")]
    command += ["--trace", str(folder / "trace.csv"), "--out", str(folder / "out")]
    command += ["--warmup", f"{warm_up // timedelta(minutes=1)}m", "--baseline", ",".join(["reactive", *BASELINES])]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    label = f"headstart replay, {days} days, {len(BASELINES) + 1} baselines and the bound"
    print(f"{label:66s} {cpu:8.3f} s, wall {time.perf_counter() - began:.1f} s", flush=True)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    case = next(cases())
    print(f"{case.name}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    replay_of_settings(case)
    turns_of_a_fleet(case)
    with tempfile.TemporaryDirectory() as folder:
        week_of_one_endpoint(case, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
