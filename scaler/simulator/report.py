"""report.html: a replay as a page to read. One file, no network: plotly's script comes from the package."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from forecaster.series import FloatArray
from scaler.domain.endpoint import EndpointId
from scaler.simulator.lane import Outcome
from scaler.simulator.pool_figures import clairvoyant_use, gpu_use
from scaler.simulator.replay import OWN, EndpointResult, PoolMembers, ReplayResult
from scaler.simulator.results import label, pool_rows, strategies, summary

POINTS = 2000
"""Points a line has at most: more cannot be seen, and the page stays light."""
CHARTED = 6
"""Endpoints that get charts of their own: those with the most replica hours. All are in the table."""
INK, MUTED, GRID, OWN_COLOUR, READY, DEMAND, BAND = (
    "#1f2933", "#7b8794", "#e4e7eb", "#0b7285", "#2b8a3e", "#495057", "#f59f00",
)  # fmt: skip
PALETTE = (
    "#c92a2a", "#5f3dc4", "#e67700", "#1864ab", "#862e9c", "#5c940d", "#a61e4d", "#364fc7", "#087f5b", "#d9480f",
    "#6741d9", "#9c36b5", "#2f9e44", "#e03131", "#1971c2",
)  # fmt: skip
POOL_COLUMNS = {"asked_gpu_hours": ",.1f", "granted_gpu_hours": ",.1f", "most_gpus_asked": ",", "cut_hours": ",.2f"}
"""What a pool's table shows of its figures, and how."""
NO_MISS = 2e-5
"""Where a strategy that was never late stands on an axis of logarithms."""
LATE_TICKS = (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
STYLE = """
:root{--ink:#1f2933;--muted:#616e7c;--line:#e4e7eb;--own:#0b7285;--soft:#f5f7fa}
*{box-sizing:border-box}body{margin:0;font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);
background:#fff}main{max-width:1180px;margin:0 auto;padding:2.5rem 1.5rem 4rem}h1{font-size:1.9rem;margin:0 0 .3rem}
h2{font-size:1.25rem;margin:2.6rem 0 .4rem}p{max-width:75ch}.lead{color:var(--muted);margin:0 0 1.6rem}
.cards{display:flex;flex-wrap:wrap;gap:.9rem}.card{flex:1 1 190px;background:var(--soft);border-radius:10px;
padding:.9rem 1.1rem}.card b{display:block;font-size:1.65rem;line-height:1.2}.card span{color:var(--muted);
font-size:.88rem}.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;
font-size:.93rem}th,td{text-align:right;padding:.42rem .7rem;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--muted);font-weight:600}th:first-child,td:first-child{text-align:left}tr.own td{font-weight:650;
color:var(--own)}.bad,tr.own td.bad{color:#c92a2a}.note{color:var(--muted);font-size:.9rem}
"""


def report(result: ReplayResult) -> str:
    """The page, as text. The same result gives the same page."""
    figures = summary(result)
    parts = [_head(result, figures), _cards(result, figures), "<h2>What it cost and what it kept</h2>"]
    parts.append(_table(figures, _objective(result)))
    parts.append(_html(_cost_chart(result, figures), "cost"))
    parts.append(
        '<p class="note">Down and to the right is better: fewer replica hours, more requests in time. Lines show each '
        "strategy over its own range of aggressiveness, points as it runs by default.</p>"
        if _has_frontier(result)
        else '<p class="note">Down and to the right is better: fewer replica hours, more requests in time.</p>'
    )
    for pool, members in result.pools.items():
        parts.extend(_pool_part(pool, members, result, figures))
    for name, found in _charted(result):
        parts.extend(_endpoint_part(name, found, result.several))
    if result.several:
        parts.append(_endpoints_table(figures["endpoints"]))
    parts.append(_glossary())
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Headstart replay</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body><main>{body}</main></body></html>\n"
    )


def _head(result: ReplayResult, figures: Mapping[str, Any]) -> str:
    first = next(iter(result.endpoints.values()))
    outcome = next(iter(first.outcomes.values()))
    end = first.start + timedelta(seconds=outcome.step_seconds * len(outcome.demand))
    names = ", ".join(escape(name.name) for name in list(result.endpoints)[:4])
    more = f" and {len(result.endpoints) - 4} more" if len(result.endpoints) > 4 else ""
    faults = f" With these faults: {escape(', '.join(result.faults.names))}." if result.faults.names else ""
    return (
        f'<h1>Replay of {names}{more}</h1><p class="lead">{first.start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, '
        f"decided every {outcome.step_seconds:g} s by the same code that runs in the cluster, on recorded demand."
        f"{faults}</p>"
    )


def _cards(result: ReplayResult, figures: Mapping[str, Any]) -> str:
    own = figures.get(OWN)
    if own is None:
        return ""
    cards = [
        (f"{own['slo_attainment']:.2%}", f"of demand in time; promised {_objective(result):.2%}"),
        (f"{own['replica_hours']:,.1f}", "replica hours, starting ones included"),
    ]
    feasible, free = figures["clairvoyant"]["feasible_replica_hours"], _without_pool(figures)
    if feasible:
        cards.append(
            (
                f"{own['replica_hours'] / feasible:.2f} x",
                f"the hours of a clairvoyant that just keeps the promise{free}",
            )
        )
    rivals = _keeping(figures, _objective(result))
    if rivals:
        name, hours = min(rivals.items(), key=lambda item: item[1])
        saved = 1 - own["replica_hours"] / hours
        more = "less" if saved >= 0 else "more"
        if own["slo_attainment"] >= _objective(result):
            cards.append((f"{abs(saved):.0%} {more}", f"than {escape(name)}, the cheapest other that kept the promise"))
        else:
            cards.append((f"{hours:,.1f}", f"replica hours of {escape(name)}, the cheapest that kept the promise"))
    cells = "".join(f'<div class="card"><b>{value}</b><span>{text}</span></div>' for value, text in cards)
    return f'<div class="cards">{cells}</div>'


def _keeping(figures: Mapping[str, Any], objective: float) -> dict[str, float]:
    """Hours of the strategies other than our own that reached the objective."""
    rivals = {key: row for key, row in strategies(figures).items() if key != OWN}
    return {key: row["replica_hours"] for key, row in rivals.items() if row["slo_attainment"] >= objective}


def _objective(result: ReplayResult) -> float:
    return max(found.policy.spec.slo.objective for found in result.endpoints.values())


def _table(figures: Mapping[str, Any], objective: float) -> str:
    best = figures["clairvoyant"]["feasible_replica_hours"]
    rows = []
    for name, row in strategies(figures).items():
        ratio = f"{row['replica_hours'] / best:.2f}" if best else "–"
        own = ' class="own"' if name == OWN else ""
        late = ' class="bad"' if row["slo_attainment"] < objective else ""
        rows.append(
            f"<tr{own}><td>{escape(name)}</td><td>{row['replica_hours']:,.1f}</td>"
            f"<td>{row['gpu_hours']:,.1f}</td><td>{ratio}</td><td{late}>{row['slo_attainment']:.3%}</td>"
            f"<td>{row['cold_requests']:,.0f}</td><td>{row['starts']:,}</td><td>{row['p95_wait_seconds']:,.1f}</td>"
            f"<td>{row['wasted_replica_hours']:,.1f}</td></tr>"
        )
    bound, free = figures["clairvoyant"]["lower_bound_replica_hours"], _without_pool(figures)
    rows.append(_clairvoyant_row(f"clairvoyant, a path that works{free}", best))
    rows.append(_clairvoyant_row("clairvoyant, lower bound", bound))
    return (
        '<div class="scroll"><table><tr><th>strategy</th><th>replica h</th><th>GPU h</th><th>x clairvoyant</th>'
        "<th>in time</th><th>cold requests</th><th>starts</th><th>p95 wait s</th><th>wasted h</th></tr>"
        + "".join(rows)
        + "</table></div>"
    )


def _without_pool(figures: Mapping[str, Any]) -> str:
    return " (without the pool)" if "pools" in figures else ""


def _clairvoyant_row(name: str, hours: float | None) -> str:
    shown = f"{hours:,.1f}" if hours is not None else "none found"
    return f"<tr><td>{name}</td><td>{shown}</td><td></td><td></td><td></td><td></td><td></td><td></td><td></td></tr>"


def _has_frontier(result: ReplayResult) -> bool:
    return any(found.frontier for found in result.endpoints.values())


def _cost_chart(result: ReplayResult, figures: Mapping[str, Any]) -> go.Figure:
    """Replica hours against the share that was late, on a scale where each step is ten times fewer."""
    figure = go.Figure()
    names = list(strategies(figures))
    for i, name in enumerate(names):
        colour = OWN_COLOUR if name == OWN else PALETTE[i % len(PALETTE)]
        curve = _frontier(result, name)
        if curve:
            figure.add_scatter(
                x=[max(late, NO_MISS) for late, _ in curve], y=[hours for _, hours in curve], mode="lines",
                line={"color": colour, "width": 1.5}, name=name, legendgroup=name, showlegend=False, opacity=0.6,
            )  # fmt: skip
        row = figures[name]
        figure.add_scatter(
            x=[max(1 - row["slo_attainment"], NO_MISS)], y=[row["replica_hours"]], mode="markers", name=name,
            legendgroup=name,
            marker={"size": 13 if name == OWN else 9, "color": colour, "symbol": "star" if name == OWN else "circle"},
            hovertemplate=f"{name}<br>%{{y:.1f}} replica h<br>{row['slo_attainment']:.3%} in time<extra></extra>",
        )  # fmt: skip
    late = 1 - _objective(result)
    # A vertical line's label would be misplaced on a logarithmic axis: a trace carries its own.
    top = max(figures[name]["replica_hours"] for name in names)
    figure.add_scatter(
        x=[late, late], y=[0.0, top], mode="lines+text", text=["", "the promise"], textposition="middle right",
        line={"color": MUTED, "dash": "dot"}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    for key, text, where in (
        ("feasible_replica_hours", "clairvoyant", "top right"),
        ("lower_bound_replica_hours", "lower bound", "bottom right"),
    ):
        hours = figures["clairvoyant"][key]
        if hours:
            line = {"color": READY, "dash": "dash"}
            figure.add_hline(y=hours, line=line, annotation_text=text, annotation_position=where)
    lates = [value for trace in figure.data for value in trace.x]
    ends = [float(np.log10(min(1.0, 1.5 * max(lates)))), float(np.log10(0.6 * min(lates)))]
    figure.update_xaxes(
        type="log", range=ends, title="share of demand that waited too long",
        tickvals=[NO_MISS, *LATE_TICKS], ticktext=["none", *(f"{late:.3g}%" for late in 100 * np.array(LATE_TICKS))],
    )  # fmt: skip
    # The careful end of a knob may cost many times what anybody would run: the points decide what is shown.
    figure.update_yaxes(title="replica hours", range=[0.0, 1.15 * top])
    return _styled(figure, 460)


def _frontier(result: ReplayResult, name: str) -> list[tuple[float, float]]:
    """(late share, replica hours) over all endpoints for each setting of the strategy's knob."""
    curves = [found.frontier.get(name, ()) for found in result.endpoints.values()]
    if not all(curves):
        return []
    weights = [float(found.outcomes[name].demand.sum()) for found in result.endpoints.values()]
    total = sum(weights) or 1.0
    points = []
    for several in zip(*curves, strict=True):
        late = sum((1 - point.slo_attainment) * weight for point, weight in zip(several, weights, strict=True)) / total
        points.append((late, sum(point.replica_hours for point in several)))
    return points


def _pool_part(pool: str, members: PoolMembers, result: ReplayResult, figures: Mapping[str, Any]) -> list[str]:
    rows = figures["pools"][pool]
    return [
        f"<h2>Pool {escape(pool)}: {members.gpus} GPUs</h2>",
        f"<p>Drawn from by {', '.join(map(escape, rows['endpoints']))}. "
        f"Orders of {OWN} (and of reactive, its shadow) are fitted into the pool before they are given, by "
        "budget.priority and down to the minima, as in the cluster. Replicas of other scalers wait until GPUs are "
        "free, first come first served. Cut are the hours in which an endpoint had less than it asked for. Orders grow "
        "by the steps of behavior.scaleUp from what stands, so a pool that cuts may be asked for less than one that "
        "suffices: try sizes.</p>",
        _pool_table(pool_rows(rows)),
        '<p class="note">The clairvoyant knows of no pool: its rows and lines, here and below, are those of every '
        "endpoint by itself. Its lower bound holds in the pool too; its path may not fit.</p>",
        _html(_pool_chart(members, result), f"pool-{pool}"),
        _members_table(members, result, figures),
    ]


def _pool_table(rows: Mapping[str, Mapping[str, float | None]]) -> str:
    shown = []
    for name, row in rows.items():
        own = ' class="own"' if name == OWN else ""
        cells = "".join(
            f"<td>{'–' if row[key] is None else format(row[key], form)}</td>" for key, form in POOL_COLUMNS.items()
        )
        shown.append(f"<tr{own}><td>{escape(name)}</td>{cells}</tr>")
    return (
        '<div class="scroll"><table><tr><th>strategy</th><th>GPU h asked for</th><th>GPU h granted</th>'
        f"<th>most GPUs asked for</th><th>hours cut</th></tr>{''.join(shown)}</table></div>"
    )


def _members_table(members: PoolMembers, result: ReplayResult, figures: Mapping[str, Any]) -> str:
    """What the pool meant to each of its endpoints, under the own strategy (or the first there is)."""
    rows = []
    for name in members.endpoints:
        of_endpoint = figures["endpoints"][label(name)] if result.several else figures
        strategy, own = next(iter(strategies(of_endpoint).items()))
        budget = result.endpoints[name].policy.spec.budget
        rows.append(
            f"<tr><td>{escape(name.name)}</td><td>{budget.priority}</td><td>{own['asked_gpu_hours']:,.1f}</td>"
            f"<td>{own['gpu_hours']:,.1f}</td><td>{own['cut_hours']:,.2f}</td><td>{own['slo_attainment']:.3%}</td></tr>"
        )
    return (
        f'<div class="scroll"><table><tr><th>endpoint, {escape(strategy)}</th><th>priority</th>'
        "<th>GPU h asked for</th><th>GPU h granted</th><th>hours cut</th><th>in time</th></tr>"
        f"{''.join(rows)}</table></div>"
    )


def _pool_chart(members: PoolMembers, result: ReplayResult) -> go.Figure:
    found = [result.endpoints[name] for name in members.endpoints]
    strategy = next(iter(found[0].outcomes))
    use = gpu_use([(one, one.outcomes[strategy]) for one in found])
    times = _times(found[0], found[0].outcomes[strategy])
    figure = go.Figure()
    best = clairvoyant_use(found)
    lines = [("asked for", use.asked, BAND), ("granted", use.granted, READY)]
    if best is not None:
        lines.append(("clairvoyant, without the pool", best.asked, MUTED))
    for name, gpus, colour in lines:
        figure.add_scatter(
            x=times, y=_thin(gpus, np.nanmax), name=name, line={"color": colour, "width": 1.5, "shape": "hv"},
            visible="legendonly" if colour == MUTED else True,
        )  # fmt: skip
    figure.add_hline(y=members.gpus, line={"color": INK, "dash": "dot"}, annotation_text=f"the pool: {members.gpus}")
    figure.update_yaxes(title=f"GPUs under {strategy}", rangemode="tozero")
    return _styled(figure, 380)


def _charted(result: ReplayResult) -> Sequence[tuple[EndpointId, EndpointResult]]:
    def hours(item: tuple[EndpointId, EndpointResult]) -> float:
        return max(outcome.replica_hours for outcome in item[1].outcomes.values())

    return sorted(result.endpoints.items(), key=hours, reverse=True)[:CHARTED]


def _endpoint_part(name: EndpointId, found: EndpointResult, several: bool) -> list[str]:
    own = found.outcomes.get(OWN) or next(iter(found.outcomes.values()))
    suffix = f": {escape(name.name)}" if several else ""
    key = f"{name.namespace}-{name.name}"
    return [
        f"<h2>Demand and replicas{suffix}</h2><p>Replicas are ordered one start-up time before they are needed, so the "
        "ordered line should climb ahead of demand and the ready line should arrive with it.</p>",
        _html(_demand_chart(found, own), f"demand-{key}"),
        f"<h2>Waiting{suffix}</h2>",
        _html(_wait_chart(found), f"wait-{key}"),
        *_movers(found, suffix),
    ]


def _movers(found: EndpointResult, suffix: str) -> list[str]:
    """What moved the own strategy's orders, and how often: the plan, or the guardrail that had the last word."""
    moved = [row for row in found.decisions if row["final"] != row["current"] and "verdicts" in row]
    if not moved:
        return []
    counts: dict[str, list[int]] = {}
    for row in moved:
        changed = [verdict for verdict in row["verdicts"] if verdict["before"] != verdict["after"]]
        mover = changed[-1]["guardrail"] if changed else "plan"
        counts.setdefault(mover, [0, 0])[row["final"] < row["current"]] += 1
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{ups:,}</td><td>{downs:,}</td></tr>"
        for name, (ups, downs) in sorted(counts.items(), key=lambda item: -sum(item[1]))
    )
    return [
        f"<h2>What moved the orders{suffix}</h2><p>The plan, or the guardrail with the last word; each in "
        "decisions.jsonl with its reasons. A threshold or trigger high up in this list is what the hours above went "
        f'into.</p><div class="scroll"><table><tr><th>moved by</th><th>up</th><th>down</th></tr>{rows}</table></div>'
    ]


def _demand_chart(found: EndpointResult, own: Outcome) -> go.Figure:
    spec = found.policy.spec
    per_second = 1.0 / own.step_seconds if spec.demand.unit.is_rate else 1.0
    capacity = spec.capacity.per_replica
    figure = go.Figure()
    times = _times(found, own)
    planned = _thin(found.ahead, np.nanmax)
    figure.add_scatter(
        x=times, y=planned / capacity, name="planned for", line={"color": BAND, "width": 1.2}, connectgaps=False
    )
    figure.add_scatter(
        x=times, y=_thin(own.demand * per_second, np.nanmean) / capacity, name="demand", fill="tozeroy",
        line={"color": DEMAND, "width": 1}, fillcolor="rgba(73,80,87,.14)",
    )  # fmt: skip
    figure.add_scatter(
        x=times,
        y=_thin(own.desired, np.nanmax),
        name="ordered",
        line={"color": OWN_COLOUR, "width": 1.5, "shape": "hv"},
    )
    figure.add_scatter(
        x=times, y=_thin(own.ready, np.nanmin), name="ready", line={"color": READY, "width": 1.5, "shape": "hv"}
    )
    best = found.clairvoyant.outcome if found.clairvoyant else None
    if best is not None:
        figure.add_scatter(
            x=times, y=_thin(best.ready, np.nanmin), name="clairvoyant", visible="legendonly",
            line={"color": MUTED, "width": 1, "dash": "dot", "shape": "hv"},
        )  # fmt: skip
    figure.update_yaxes(title=f"replicas, at {capacity:.3g} {_unit(found)} each", rangemode="tozero")
    figure.update_xaxes(rangeslider={"visible": True, "thickness": 0.06})
    return _styled(figure, 460)


def _unit(found: EndpointResult) -> str:
    unit = found.policy.spec.demand.unit
    return f"{unit.value}/s" if unit.is_rate else "in flight"


def _wait_chart(found: EndpointResult) -> go.Figure:
    figure = go.Figure()
    for i, (name, outcome) in enumerate(found.outcomes.items()):
        colour = OWN_COLOUR if name == OWN else PALETTE[i % len(PALETTE)]
        waits = np.where(outcome.demand > 0, outcome.wait_seconds, 0.0)
        figure.add_scatter(
            x=_times(found, outcome), y=_thin(waits, np.nanmax), name=name, line={"color": colour, "width": 1.2},
            visible=True if name == OWN or i < 2 else "legendonly",
        )  # fmt: skip
    promised = found.policy.spec.slo.queue_wait.total_seconds()
    figure.add_hline(y=promised, line={"color": MUTED, "dash": "dot"}, annotation_text=f"promised: {promised:g} s")
    figure.update_yaxes(title="longest wait in seconds", rangemode="tozero")
    return _styled(figure, 320)


def _thin(values: NDArray[Any], reduce: Any) -> FloatArray:
    """At most POINTS values, each standing for as many in a row."""
    n = max(1, -(-len(values) // POINTS))
    padded = np.concatenate([values.astype(np.float64), np.full(-len(values) % n, np.nan)]).reshape(-1, n)
    seen = ~np.isnan(padded).all(axis=1)
    result = np.full(len(padded), np.nan)
    result[seen] = reduce(padded[seen], axis=1)
    return np.round(result, 4)


def _times(found: EndpointResult, outcome: Outcome) -> list[str]:
    n = max(1, -(-len(outcome.demand) // POINTS))
    step = timedelta(seconds=outcome.step_seconds)
    return [f"{found.start + k * step:%Y-%m-%d %H:%M:%S}" for k in range(0, len(outcome.demand), n)]


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height, margin={"l": 60, "r": 20, "t": 20, "b": 50}, plot_bgcolor="#fff", paper_bgcolor="#fff",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK}, hovermode="closest",
        legend={"orientation": "h", "y": 1.08},
    )  # fmt: skip
    figure.update_xaxes(gridcolor=GRID)
    figure.update_yaxes(gridcolor=GRID)
    return figure


def _html(figure: go.Figure, name: str) -> str:
    config = {"displaylogo": False, "responsive": True}
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{quote(name)}", config=config)
    return text


def _endpoints_table(endpoints: Mapping[str, Any]) -> str:
    rows = []
    for name, row in endpoints.items():
        own = row.get(OWN) or next(value for key, value in row.items() if key != "clairvoyant")
        best = row["clairvoyant"]["feasible_replica_hours"]
        reachable = f"{best:,.1f}" if best is not None else "–"
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{own['replica_hours']:,.1f}</td>"
            f"<td>{reachable}</td><td>{own['slo_attainment']:.3%}</td>"
            f"<td>{own['cold_requests']:,.0f}</td><td>{own['starts']:,}</td></tr>"
        )
    return (
        '<h2>Every endpoint</h2><div class="scroll"><table><tr><th>endpoint</th><th>replica h</th>'
        "<th>clairvoyant h</th><th>in time</th><th>cold requests</th><th>starts</th></tr>"
        + "".join(rows)
        + "</table></div>"
    )


def _glossary() -> str:
    return (
        "<h2>How to read this</h2><p>A replica is paid from its order until it is let go, so a start costs its "
        "loading time. A request is in time if the step it falls in ends with a wait within the promise; it is cold if "
        "that step ends without a ready replica. Wasted hours are those of ready replicas in steps that use less than "
        "capacity.utilization.low of what they carry. The clairvoyant knows every arrival beforehand and pays for "
        "starts like everyone else: no strategy that keeps the promise can cost less than its lower bound, and its "
        "path shows what is reachable. All strategies begin the span with the same replicas.</p>"
    )
