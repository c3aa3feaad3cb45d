"""A pool's GPUs: minima first, then by priority, equals alike, nothing left over that could be used."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.core.allocation import Claim, PoolUse, share_beside, share_out, within_pools
from scaler.core.decide import decide
from scaler.domain.decision import Reason
from scaler.domain.endpoint import EndpointId
from tests.builders import a_policy, a_snapshot, some_replicas, some_signals

# (priority, GPUs each, least, standing, asked)
Row = tuple[int, int, int, int, int]


def a_claim(name: str, row: Row) -> Claim:
    priority, each, least, standing, asked = row
    return Claim(
        endpoint=EndpointId("prod", name),
        priority=priority,
        gpus_per_replica=each,
        least=least,
        standing=standing,
        asked=asked,
    )


def granted(gpus: int, *rows: Row) -> list[int]:
    claims = [a_claim(f"e{i}", row) for i, row in enumerate(rows)]
    shared = share_out(claims, gpus)
    return [shared[claim.endpoint] for claim in claims]


@pytest.mark.parametrize(
    ("what", "gpus", "rows", "expected"),
    [
        ("enough for all", 20, [(100, 1, 0, 4, 6), (100, 2, 0, 1, 5)], [6, 5]),
        ("equals get equal shares of what they asked for", 6, [(100, 1, 0, 0, 4), (100, 1, 0, 0, 8)], [2, 4]),
        ("equals do not take what stands", 10, [(100, 1, 0, 8, 8), (100, 1, 0, 2, 8)], [8, 2]),
        ("a higher priority does", 10, [(100, 1, 0, 8, 8), (200, 1, 0, 2, 8)], [2, 8]),
        ("down to the other's minimum", 10, [(100, 1, 3, 8, 8), (200, 1, 0, 2, 9)], [3, 7]),
        ("minima hold even where they do not fit", 4, [(100, 1, 3, 3, 5), (200, 1, 3, 3, 5)], [3, 3]),
        ("a minimum above what is asked for takes nothing", 4, [(100, 1, 3, 0, 1), (100, 1, 0, 0, 4)], [1, 3]),
        ("a smaller replica fits where a larger one does not", 9, [(200, 8, 0, 0, 2), (100, 1, 0, 0, 3)], [1, 1]),
        ("more stands than the pool has: the cap holds", 6, [(100, 1, 0, 6, 6), (100, 1, 0, 6, 6)], [3, 3]),
        ("scale-in is nobody's loss", 10, [(100, 1, 0, 8, 2), (100, 1, 0, 2, 9)], [2, 8]),
        ("nothing is asked for", 10, [(100, 1, 2, 5, 0)], [0]),
    ],
)
def test_shares(what: str, gpus: int, rows: list[Row], expected: list[int]) -> None:
    assert granted(gpus, *rows) == expected, what


rows = st.lists(
    st.tuples(
        st.sampled_from([50, 100, 200]), st.integers(1, 8), st.integers(0, 5), st.integers(0, 30), st.integers(0, 30)
    ),
    min_size=1,
    max_size=8,
)


@given(st.integers(0, 120), rows)
def test_a_share_is_within_what_was_asked_for_and_the_pool_and_leaves_nothing_over(gpus: int, rows: list[Row]) -> None:
    shares = granted(gpus, *rows)
    least = [min(minimum, asked) for _, _, minimum, _, asked in rows]
    assert all(low <= share <= row[4] for low, share, row in zip(least, shares, rows, strict=True))
    used = sum(share * row[1] for share, row in zip(shares, rows, strict=True))
    assert used <= max(gpus, sum(low * row[1] for low, row in zip(least, rows, strict=True)))
    assert all(share == row[4] or row[1] > gpus - used for share, row in zip(shares, rows, strict=True))


@given(st.integers(0, 120), rows)
def test_who_is_short_had_nothing_to_take_from_a_lower_priority(gpus: int, rows: list[Row]) -> None:
    shares = granted(gpus, *rows)
    for share, (priority, each, _, _, asked) in zip(shares, rows, strict=True):
        lower = [
            row[1] * (other - min(row[2], row[4])) for other, row in zip(shares, rows, strict=True) if row[0] < priority
        ]
        assert share == asked or sum(lower) < each


@given(st.integers(0, 120), rows)
def test_nobody_grows_into_what_stands_beyond_an_order_and_nobody_gives_way_to_it(gpus: int, rows: list[Row]) -> None:
    claims = [a_claim(f"e{i}", row) for i, row in enumerate(rows)]
    beyond = sum(max(0, one.standing - one.asked) * one.gpus_per_replica for one in claims)
    without, shares = share_out(claims, gpus), share_beside(claims, gpus, beyond)
    kept = {one.endpoint: min(without[one.endpoint], max(one.standing, one.least)) for one in claims}
    assert all(kept[name] <= share <= without[name] for name, share in shares.items())
    used = sum(shares[one.endpoint] * one.gpus_per_replica for one in claims)
    assert shares == kept or used + beyond <= gpus


def a_turn(name: str, demand: float, standing: int, *, gpus: int = 1, **spec):
    """An endpoint of pool a100 that enforces and asks for demand / .85 replicas of one."""
    target = {"pool": "a100", "gpusPerReplica": gpus}
    policy = a_policy({"mode": "Enforce", "target": target, "capacity": {"perReplica": 1.0}} | spec, name=name)
    replicas = None if standing < 0 else some_replicas(standing)
    snapshot = a_snapshot(policy, replicas=replicas, signals=some_signals(demand))
    return snapshot, decide(snapshot)


def orders(turns, **pools):
    return [decision.final for decision in within_pools(turns, pools)[0]]


def test_the_orders_of_one_turn_stay_within_the_pool_together_and_say_why():
    turns = [a_turn("chat", 6.8, 4), a_turn("image", 3.4, 4)]
    decisions, uses = within_pools(turns, {"a100": 10})
    assert [decision.final for decision in decisions] == [6, 4]
    short, whole = (decision.verdicts[-1] for decision in decisions)
    assert (short.guardrail, short.before, short.after, short.reason_code) == ("quota", 8, 6, Reason.QUOTA)
    assert "pool a100 has 10 GPUs: 6 of 8 replicas" in decisions[0].sentence()
    assert (whole.reason_code, whole.changed) == (Reason.UNCHANGED, False)
    assert uses == {"a100": PoolUse(gpus=10, asked=12, granted=10)}


def test_without_a_limit_of_its_pool_nothing_is_said():
    turns = [a_turn("chat", 6.8, 4)]
    assert within_pools(turns, {"h100": 1}) == ([turns[0][1]], {"h100": PoolUse(gpus=1, asked=0, granted=0)})
    assert within_pools(turns, {}) == ([turns[0][1]], {})


@pytest.mark.parametrize(
    ("what", "other", "left"),
    [
        ("one that observes", {"mode": "Observe"}, 5),
        ("a frozen one", {"safety": {"paused": True}}, 5),
        ("one that gives way", {}, 8),
    ],
)
def test_what_stands_where_nothing_is_ordered_is_not_shared_out(what, other, left):
    chat, image = a_turn("chat", 6.8, 4), a_turn("image", 4.2, 5, budget={"priority": 1}, **other)
    assert orders([chat, image], a100=10)[0] == left, what


def test_while_one_endpoint_is_unknown_nobody_grows_and_nobody_gives_way():
    silent = a_turn("image", 4.2, -1)
    growing, shrinking = a_turn("chat", 6.8, 4), a_turn("embed", 0.85, 3)
    assert orders([growing, silent, shrinking], a100=100) == [4, None, 1]


def test_a_hold_gives_way_to_nobody():
    policy = a_policy({"mode": "Enforce", "target": {"pool": "a100"}, "budget": {"priority": 1}}, name="image")
    blind = a_snapshot(policy, replicas=some_replicas(5), signals=None)
    assert orders([a_turn("chat", 6.8, 4), (blind, decide(blind))], a100=10) == [5, 5]


def test_replicas_without_a_gpu_count_for_nothing():
    embed = a_turn("embed", 8.5, 10, gpus=0)
    assert orders([a_turn("chat", 6.8, 4), embed], a100=8) == [8, embed[1].final]


def test_a_policy_that_watches_beside_the_one_that_orders_holds_no_gpus_of_its_own():
    target = {"pool": "a100", "name": "chat"}
    acting = a_policy({"target": target}, name="chat")
    watching = [a_policy({"target": target, "mode": "Observe"}, name=name) for name in ("bolder", "calmer")]
    snapshots = [a_snapshot(policy, signals=some_signals(2, ahead=8)) for policy in (acting, *watching)]
    decisions, uses = within_pools([(snapshot, decide(snapshot)) for snapshot in snapshots], {"a100": 6})
    assert (decisions[0].final, uses["a100"].granted) == (6, 6)


def test_what_stands_above_an_order_is_not_free_and_nobody_gives_way_to_it():
    """An HPA holds eight where its floor is two: nobody grows into the six, and nobody loses what stands to them."""
    floor = a_policy({"target": {"pool": "a100"}}, name="image")
    held = a_snapshot(floor, replicas=replace(some_replicas(8), desired=2), signals=some_signals(2.0))
    decisions, uses = within_pools([a_turn("chat", 6.8, 4), (held, decide(held))], {"a100": 10})
    assert [decision.final for decision in decisions] == [4, 2]
    assert "pool a100 has 10 GPUs, 6 of them taken beside these orders: 4 of 8" in decisions[0].sentence()
    assert uses["a100"] == PoolUse(gpus=10, asked=16, granted=12)


def test_what_a_hold_orders_to_its_minimum_is_not_free():
    policy = a_policy({"target": {"pool": "a100"}, "replicas": {"min": 5}}, name="image")
    blind = a_snapshot(policy, replicas=some_replicas(2), signals=None)
    assert orders([a_turn("chat", 6.8, 4), (blind, decide(blind))], a100=10) == [5, 5]


def test_an_order_cut_for_what_is_not_known_says_of_whom():
    silent = a_turn("image", 4.2, -1)
    cut = within_pools([a_turn("chat", 6.8, 4), silent], {"a100": 100})[0][0]
    assert "but what stands of prod/image is not known, and nobody grows meanwhile: 4 of 8" in cut.sentence()
    cut = within_pools([a_turn("chat", 6.8, 4), silent, a_turn("embed", 1.0, -1)], {"a100": 100})[0][0]
    assert "what stands of prod/image and 1 more is not known" in cut.sentence()
