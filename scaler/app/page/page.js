"use strict";
// Polls the API and redraws. Times are UTC; plotly would show local time, so it gets them without their zone.

const byId = (id) => document.getElementById(id);
const root = document.documentElement;
const dark = () => root.dataset.theme === "dark";
const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const utc = (iso) => iso.slice(0, 19).replace("T", " ");
const round = (value, digits = 1) => (value === null || value === undefined ? "—" : Number(value).toFixed(digits));
const text = (value) => { const node = document.createElement("span"); node.textContent = value; return node.innerHTML; };
const get = async (path) => {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
};

let chosen = null;
let timeScale = 1;

root.dataset.theme = localStorage.getItem("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
byId("theme").onclick = () => {
  root.dataset.theme = dark() ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
};
byId("changes").onchange = () => showDecisions();

function rgba(hex, alpha) {
  const value = parseInt(hex.slice(1), 16);
  return `rgba(${value >> 16}, ${(value >> 8) & 255}, ${value & 255}, ${alpha})`;
}

function traces(line) {
  const points = line.points, at = points.at.map(utc), accent = style("--accent"), good = style("--good"), warn = style("--warn");
  const ink = style("--ink"), soft = style("--soft");
  const all = [];
  if (line.forecast) {
    const when = line.forecast.at.map(utc), values = line.forecast.values, n = values.length;
    const issued = `forecast of ${line.forecast.issued_at.slice(11, 16)} (${line.forecast.method})`;
    for (let i = 0; i < n - 1; i++) {
      all.push({ x: when, y: values[i], line: { width: 0 }, hoverinfo: "skip", showlegend: false, mode: "lines" });
      all.push({ x: when, y: values[i + 1], line: { width: 0 }, fill: "tonexty", mode: "lines", hoverinfo: "skip",
        fillcolor: rgba(accent, i === 0 || i === n - 2 ? 0.14 : 0.26), name: "forecast", showlegend: i === 0 });
    }
    const middle = line.forecast.levels.indexOf(0.5);
    if (middle >= 0) all.push({ x: when, y: values[middle], mode: "lines", name: issued, line: { color: accent, width: 1.2, dash: "dot" }, showlegend: false });
  }
  all.push({ x: at, y: points.demand, mode: "lines", name: "demand", line: { color: ink, width: 1.3 }, connectgaps: false });
  if (line.per_replica) all.push({ x: at, y: points.ready.map((n) => (n === null ? null : n * line.per_replica)), mode: "lines",
    name: "ready capacity", line: { color: good, width: 1.6, shape: "hv" } });
  const lower = { xaxis: "x", yaxis: "y2", mode: "lines" };
  all.push({ ...lower, x: at, y: points.ready, stackgroup: "replicas", name: "ready", showlegend: false, line: { color: good, width: 0, shape: "hv" }, fillcolor: rgba(good, 0.5) });
  all.push({ ...lower, x: at, y: points.starting, stackgroup: "replicas", name: "starting", line: { color: warn, width: 0, shape: "hv" }, fillcolor: rgba(warn, 0.75) });
  if (points.reactive.some((n) => n !== null)) all.push({ ...lower, x: at, y: points.reactive, name: "reactive alone", line: { color: soft, width: 1, dash: "dot", shape: "hv" } });
  return all;
}

function layout(line, now) {
  const soft = style("--soft"), grid = style("--line"), axis = { gridcolor: grid, zerolinecolor: grid, tickfont: { size: 11 } };
  const end = new Date(now), first = new Date(end - 12 * 3600e3), last = new Date(+end + 12 * 3600e3);
  const busiest = Math.max(...line.points.demand.slice(-720).filter((value) => value !== null), 1e-9);
  const likely = line.forecast ? Math.max(...line.forecast.values[Math.max(line.forecast.values.length - 2, 0)].slice(0, 72), busiest) : busiest;
  const tallest = Math.max(...line.points.ready.slice(-720).map((n, i) => (n || 0) + (line.points.starting.slice(-720)[i] || 0)), ...line.points.reactive.slice(-720), 1);
  const most = Math.max(...line.points.ready.slice(-720), 1) * (line.per_replica || 0);
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: soft, family: "system-ui, sans-serif", size: 11 },
    margin: { l: 44, r: 8, t: 30, b: 26 }, hovermode: "x unified", uirevision: "keep",
    hoverlabel: { bgcolor: style("--card"), font: { color: style("--ink") } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 }, traceorder: "normal", itemwidth: 30 },
    xaxis: { ...axis, range: [utc(first.toISOString()), utc(last.toISOString())], anchor: "y2", type: "date" },
    yaxis: { ...axis, domain: [0.4, 1], rangemode: "tozero", range: [0, 1.15 * Math.max(likely, Math.min(most, 2.5 * likely))],
      title: { text: line.unit === "concurrency" ? "in flight" : `${line.unit || "demand"} / s`, font: { size: 11 } } },
    yaxis2: { ...axis, domain: [0, 0.3], rangemode: "tozero", title: { text: "replicas", font: { size: 11 } }, tickformat: "d", tick0: 0, dtick: Math.max(1, Math.ceil(tallest / 3)) },
    shapes: [{ type: "line", x0: utc(now), x1: utc(now), yref: "paper", y0: 0, y1: 1, line: { color: style("--accent"), width: 1 } }],
  };
}


function card(endpoint) {
  const key = `${endpoint.namespace}/${endpoint.name}`, id = `card-${key.replace("/", "--")}`;
  let node = byId(id);
  if (!node) {
    node = document.createElement("article");
    node.id = id;
    node.className = "card";
    node.innerHTML = '<div class="top"><h2></h2><span class="pill mode"></span><span class="counts"></span></div><p></p><div class="plot"></div>';
    byId("endpoints").append(node);
  }
  node.querySelector("h2").innerHTML = `<small>${text(endpoint.namespace)}/</small>${text(endpoint.name)}`;
  const mode = node.querySelector(".mode");
  mode.textContent = endpoint.held_for_lack_of_knowledge ? "holding" : endpoint.mode;
  mode.className = `pill mode ${endpoint.held_for_lack_of_knowledge ? "warn" : endpoint.mode === "Enforce" ? "good" : ""}`;
  node.querySelector(".counts").innerHTML =
    `<b>${endpoint.ready ?? "—"}</b> ready · <b>${endpoint.starting ?? "—"}</b> starting · ${round(endpoint.demand, 2)} ${endpoint.unit === "concurrency" ? "in flight" : endpoint.unit + "/s"}`;
  const said = endpoint.why_setting ? `Plays ${endpoint.why_setting}.` : endpoint.sentence;
  node.querySelector("p").textContent = said;
  node.querySelector("p").title = `${endpoint.sentence}\n${endpoint.why_setting}`;
  return node;
}

function figures(endpoints, status) {
  const gpus = (state) => {
    const known = endpoints.filter((endpoint) => endpoint[state] !== null);
    return known.length || !endpoints.length ? known.reduce((total, endpoint) => total + endpoint[state] * endpoint.gpus_per_replica, 0) : "—";
  };
  const shown = [
    [gpus("ready"), "GPUs serving"],
    [gpus("starting"), "GPUs starting"],
    [endpoints.length, "endpoints"],
  ];
  const versus = status.comparison;
  if (versus && versus.hours > 0.2) {
    shown.push([`${round(versus.replica_hours)} h`, `replica-hours in ${round(versus.hours)} h; plain HPA: ${round(versus.hpa_replica_hours)} h`]);
    shown.push([`${round(100 * versus.good_share, 2)} %`, "requests within the wait promised"]);
    shown.push([`${round(100 * versus.hpa_good_share, 2)} %`, "the same with a plain HPA"]);
  }
  byId("figures").innerHTML = shown.map(([value, label]) => `<div class="figure"><b>${value}</b><span>${text(label)}</span></div>`).join("");
}

function tabs(endpoints) {
  const keys = endpoints.map((endpoint) => `${endpoint.namespace}/${endpoint.name}`);
  const busiest = [...endpoints].sort((a, b) => (b.ready || 0) - (a.ready || 0))[0];
  if (!keys.includes(chosen)) chosen = busiest ? `${busiest.namespace}/${busiest.name}` : null;
  const html = keys.map((key) => `<button type="button" role="tab" aria-selected="${key === chosen}" data-key="${text(key)}">${text(key)}</button>`).join("");
  if (byId("tabs").innerHTML === html) return;
  byId("tabs").innerHTML = html;
  for (const button of byId("tabs").children) button.onclick = () => { chosen = button.dataset.key; tabs(endpoints); showDecisions(); };
}

function row(decision) {
  const changed = decision.final !== decision.current;
  const way = decision.plan === null ? "hold" : decision.final > decision.current ? "up" : decision.final < decision.current ? "down" : "";
  const told = decision.verdicts.filter((verdict) => verdict.before !== verdict.after || decision.plan === null);
  const chips = told.map((verdict) => `<span class="chip">${text(verdict.reason_code)}</span>`).join("");
  const why = told.length ? told.map((verdict) => verdict.reason).join("; ") : decision.sentence.split(": ").slice(2).join(": ") || decision.sentence;
  return `<tr title="${text(decision.sentence).replaceAll('"', "&quot;")}"><td>${decision.decided_at.slice(5, 19).replace("T", " ")}</td>` +
    `<td class="move ${way}">${changed ? `${decision.current} → ${decision.final}` : decision.final ?? "—"}</td>` +
    `<td>${decision.ready ?? "—"} + ${decision.starting ?? "—"}</td><td>${chips}${text(why)}</td><td>${text(decision.outcome)}</td></tr>`;
}

async function showDecisions() {
  if (!chosen) return;
  const only = byId("changes").checked;
  const rows = await get(`/api/v1/endpoints/${chosen}/decisions?limit=${only ? 600 : 14}`);
  const wanted = only ? rows.filter((decision) => decision.final !== decision.current || decision.plan === null) : rows;
  byId("rows").innerHTML = wanted.slice(0, 14).map(row).join("") || '<tr><td colspan="5">nothing changed lately</td></tr>';
}

async function beat() {
  const [status, endpoints] = await Promise.all([get("/api/v1/status"), get("/api/v1/endpoints")]);
  timeScale = status.time_scale;
  byId("now").textContent = `${utc(status.now)} UTC`;
  byId("speed").textContent = timeScale === 1 ? "" : `× ${timeScale}`;
  byId("note").textContent = `${status.turns} turns, one each ${status.turn_seconds} s`;
  const problems = Object.entries(status.problems);
  byId("problems").hidden = problems.length === 0;
  byId("problems").textContent = problems.map(([what, why]) => `${what}: ${why}`).join(" · ");
  byId("health").textContent = status.last_turn === null ? "starting" : problems.length ? "holding where unknown" : "healthy";
  byId("health").className = `pill ${problems.length ? "warn" : status.last_turn === null ? "" : "good"}`;
  figures(endpoints, status);
  tabs(endpoints);
  const cards = endpoints.map(card);  // all first: a plot takes the width its card has when it is drawn
  for (const [i, endpoint] of endpoints.entries()) {
    const plot = cards[i].querySelector(".plot");
    const line = await get(`/api/v1/endpoints/${endpoint.namespace}/${endpoint.name}/timeline`);
    Plotly.react(plot, traces(line), layout(line, status.now), { displayModeBar: false, responsive: true });
  }
  const present = new Set(endpoints.map((endpoint) => `card-${endpoint.namespace}--${endpoint.name}`));
  for (const node of [...byId("endpoints").children]) if (!present.has(node.id)) node.remove();
  await showDecisions();
}

async function loop() {
  try {
    await beat();
  } catch (error) {
    byId("health").textContent = "no answer";
    byId("health").className = "pill bad";
  }
  setTimeout(loop, timeScale > 1 ? 1000 : 5000);
}
loop();
