"use strict";
// Charts as SVG elements; each is drawn for the width it gets. No library, nothing is loaded.
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  const of_svg = element.svg.has(name);
  const made = of_svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined));
  return made;
}
element.svg = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "title"]);

const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const signed = (value) => (value === null || value === undefined ? "" : (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(3));

function ticks(low, high, wanted) {
  const span = high - low || 1;
  const raw = span / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return { at: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function extent(values, share = 0.06) {
  const known = values.filter((value) => Number.isFinite(value));
  let low = Math.min(...known), high = Math.max(...known);
  if (!known.length) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - 0.05, high + 0.05];
  const more = (high - low) * share;
  return [low - more, high + more];
}

const scale = ([low, high], [from, to]) => (value) => from + ((value - low) / (high - low)) * (to - from);

// A frame with axes; `draw(x, y, plot)` fills it. Of {label, x: {domain, name}, y: {domain, name}, height, title}.
function frame(width, options, draw) {
  const height = options.height || 300, left = 52, right = 12, top = options.title ? 26 : 10, bottom = options.x.name ? 44 : 26;
  const x = scale(options.x.domain, [left, width - right]), y = scale(options.y.domain, [height - bottom, top]);
  const across = ticks(...options.x.domain, Math.max(2, width / 95)), upwards = ticks(...options.y.domain, height / 55);
  const plot = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: options.role || "img", "aria-label": options.label, ...options.attributes });
  for (const at of upwards.at) {
    plot.append(element("line", { class: "grid", x1: left, x2: width - right, y1: y(at), y2: y(at) }));
    plot.append(element("text", { x: left - 7, y: y(at) + 4, "text-anchor": "end" }, at.toFixed(upwards.digits)));
  }
  for (const at of across.at) {
    plot.append(element("line", { class: "axis", x1: x(at), x2: x(at), y1: height - bottom, y2: height - bottom + 4 }));
    plot.append(element("text", { x: x(at), y: height - bottom + 17, "text-anchor": "middle" }, at.toFixed(across.digits)));
  }
  plot.append(element("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  if (options.title) plot.append(element("text", { class: "title", x: left, y: 14 }, options.title));
  if (options.x.name) plot.append(element("text", { x: width - right, y: height - 6, "text-anchor": "end" }, options.x.name));
  draw(x, y, plot, { left, right: width - right, top, bottom: height - bottom });
  return plot;
}

// Shapes tell groups apart without colour.
const SHAPES = {
  best: (x, y, r) => `M${x} ${y - r * 1.35}L${x + r * 1.35} ${y}L${x} ${y + r * 1.35}L${x - r * 1.35} ${y}Z`,
  dominated: (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  infeasible: (x, y, r) => `M${x - r} ${y - r}L${x + r} ${y + r}M${x + r} ${y - r}L${x - r} ${y + r}`,
  stopped: (x, y, r) => `M${x} ${y + r * 1.2}L${x + r * 1.2} ${y - r}L${x - r * 1.2} ${y - r}Z`,
  baseline: (x, y, r) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}Z`,
  arm: (x, y, r) => `M${x} ${y - r * 1.2}L${x + r * 1.2} ${y + r}L${x - r * 1.2} ${y + r}Z`,
};
SHAPES.running = SHAPES.dominated;

const mark = (shape, x, y, r, attributes = {}) => element("path", { d: SHAPES[shape](x, y, r), class: `mark ${shape}`, ...attributes });

const path = (points, x, y) => "M" + points.map(([at, value]) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("L");

function ribbon(points, x, y) {
  const upper = points.map(([at, , , high]) => [at, high]), lower = points.map(([at, , low]) => [at, low]).reverse();
  return path([...upper, ...lower], x, y) + "Z";
}

// A mean's error bars along both axes; null where its spread is not known.
function errorBars(x, y, [atX, atY], wide, tall) {
  return [
    wide && element("line", { class: "whisker", x1: x(wide[0]), x2: x(wide[1]), y1: y(atY), y2: y(atY) }),
    tall && element("line", { class: "whisker", x1: x(atX), x2: x(atX), y1: y(tall[0]), y2: y(tall[1]) }),
  ];
}

// The front: one tab stop, arrow keys go from point to point.
function frontChart(view, width, selected, select) {
  const [first, second] = view.objectives; // to the right, and upwards
  const known = (of) => Number.isFinite(of[first]) && Number.isFinite(of[second]);
  const points = view.trials.filter((trial) => known(trial.metrics)), arms = armsOnFront(view), base = view.baseline;
  const seeds = base ? base.seeds.filter((seed) => known(seed.metrics)) : [];
  const guard = view.guards.find((one) => one.metric === second && one.limit !== null);
  const all = (metric, spread) => [
    ...[...points, ...seeds].map((one) => one.metrics[metric]), ...arms.flatMap((arm) => [arm.at[metric], ...(arm[spread] || [])]),
  ];
  const places = new Map(), ring = element("circle", { class: "ring", r: 10, "pointer-events": "none" });
  const plot = frame(width, {
    label: `Front: ${first} to the right, ${second} upwards; ${points.length} trials. Arrow keys go from trial to trial.`,
    role: "application", attributes: { tabindex: 0, id: "front-plot" }, height: Math.min(460, Math.max(300, width * 0.6)),
    title: `${view.words[second][0]} ↑`, x: { domain: extent(all(first, "wide")), name: `${view.words[first][0]} →` },
    y: { domain: extent(all(second, "tall").concat(guard ? [guard.limit] : [])) },
  }, (x, y, plot, box) => {
    if (guard) plot.append(
      element("line", { class: "limit", x1: box.left, x2: box.right, y1: y(guard.limit), y2: y(guard.limit) }),
      element("text", { x: box.right - 4, y: y(guard.limit) - 5, "text-anchor": "end" }, "limit"));
    for (const arm of arms) plot.append(element("g", { class: "arm", onmouseenter: () => select({ arm: arm.name, hover: true }) },
      errorBars(x, y, [arm.at[first], arm.at[second]], arm.wide, arm.tall), mark("arm", x(arm.at[first]), y(arm.at[second]), 4)));
    if (base && known(base.mean)) plot.append(element("g", { class: "baseline", onmouseenter: () => select({ baseline: true, hover: true }) },
      seeds.map((seed) => element("circle", { cx: x(seed.metrics[first]), cy: y(seed.metrics[second]), r: 2.5, fill: "currentColor", opacity: 0.5 })),
      errorBars(x, y, [base.mean[first], base.mean[second]], around(base, first), around(base, second)),
      mark("baseline", x(base.mean[first]), y(base.mean[second]), 5, { class: "mark baseline full" })));
    const order = { infeasible: 0, stopped: 1, dominated: 2, running: 2, best: 3 };
    for (const trial of [...points].sort((a, b) => order[a.group] - order[b.group])) {
      const at = [x(trial.metrics[first]), y(trial.metrics[second])];
      plot.append(mark(trial.group, ...at, points.length > 300 ? 3.5 : 5, {
        "data-trial": trial.number, onmouseenter: () => select({ trial: trial.number, hover: true }), onclick: () => select({ trial: trial.number, open: true }),
      }));
      places.set(trial.number, at);
    }
  });
  plot.append(ring);
  // Only the ring moves: a plot drawn anew under the pointer would select what lies there.
  plot.ringTo = (name) => {
    const at = places.get(name);
    ring.setAttribute("visibility", at ? "visible" : "hidden");
    if (at) [ring.cx.baseVal.value, ring.cy.baseVal.value] = at;
  };
  plot.ringTo(selected.trial);
  const sorted = [...points].sort((a, b) => b.metrics[first] - a.metrics[first]);
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const now = sorted.findIndex((trial) => trial.number === selected.trial);
    if (event.key === "Enter" && now >= 0) select({ trial: sorted[now].number, open: true });
    if (!step || !sorted.length) return;
    event.preventDefault();
    select({ trial: sorted[(now + step + sorted.length) % sorted.length].number });
  });
  return plot;
}

const around = ({ mean, sd }, metric) => (Number.isFinite(sd[metric]) ? [mean[metric] - sd[metric], mean[metric] + sd[metric]] : null);

// Arms of a comparison have several seeds, so their means have intervals.
function armsOnFront(view) {
  const found = view.comparison, [first, second] = view.objectives;
  if (!found || !found.metrics.includes(first) || !found.metrics.includes(second)) return [];
  const known = found.arms.filter((arm) => arm.name !== found.reference && Number.isFinite(arm.metrics[first].mean) && Number.isFinite(arm.metrics[second].mean));
  return known.map((arm) => ({
    name: arm.name, at: { [first]: arm.metrics[first].mean, [second]: arm.metrics[second].mean },
    wide: arm.metrics[first].interval, tall: arm.metrics[second].interval,
  }));
}

function curvesChart(view, metric, width, selected) {
  const { baseline, trials } = view.curves, groups = Object.fromEntries(view.trials.map((trial) => [trial.number, trial.group]));
  const band = baseline[metric] || [], lines = Object.entries(trials).filter(([, curves]) => curves[metric].length);
  const epochs = [...band.map((point) => point[0]), ...lines.flatMap(([, curves]) => curves[metric].map((point) => point[0]))];
  const values = [...band.flatMap((point) => point.slice(2)), ...lines.flatMap(([, curves]) => curves[metric].map((point) => point[1]))];
  return frame(width, {
    label: `Learning curves of ${metric}: ${lines.length} trials, and the band of the baseline's seeds`, title: view.words[metric][0],
    x: { domain: extent(epochs, 0), name: "epoch" }, y: { domain: extent(values) }, height: 270,
  }, (x, y, plot) => {
    if (band.length) plot.append(element("path", { class: "band", d: ribbon(band, x, y) }), element("path", { class: "curve baseline", d: path(band, x, y), "stroke-dasharray": "5 3" }));
    const rank = (name) => (Number(name) === selected.trial ? 2 : groups[name] === "best" ? 1 : 0);
    for (const [name, curves] of [...lines].sort((a, b) => rank(a[0]) - rank(b[0]))) {
      const now = Number(name) === selected.trial;
      plot.append(element("path", { class: `curve ${now ? "chosen" : groups[name]} ${rank(name) ? "" : "other"}`, "stroke-width": now ? 3 : null, d: path(curves[metric], x, y) }));
    }
  });
}

function effectChart(view, effect, width) {
  const rows = effect.grid.map((at, i) => [at, effect.mean[i], effect.low[i], effect.high[i]]);
  const values = view.effects.filter((one) => one.metric === effect.metric).flatMap((one) => [...one.low, ...one.high]);
  return frame(width, {
    label: `${effect.knob}: what the model of the study expects of ${effect.metric}`, height: 150, title: effect.knob,
    x: { domain: extent(effect.grid, 0) }, y: { domain: extent(values) },
  }, (x, y, plot) => plot.append(element("path", { class: "band", d: ribbon(rows, x, y) }), element("path", { class: "curve best", d: path(rows, x, y) })));
}

function parallelChart(view, width, selected) {
  const height = 316, axes = [
    ...view.knobs.map((knob) => ({ name: knob.name, domain: [knob.low, knob.high], of: (trial) => trial.knobs[knob.name] ?? view.off[knob.name] })),
    ...view.objectives.map((metric) => ({ name: metric, domain: extent(view.trials.map((trial) => trial.metrics[metric]), 0), of: (trial) => trial.metrics[metric] })),
  ];
  const plot = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `Parallel coordinates: ${axes.map((axis) => axis.name).join(", ")}` });
  const place = scale([0, Math.max(1, axes.length - 1)], [44, width - 44]), tall = axes.map((axis) => scale(axis.domain[0] === axis.domain[1] ? [axis.domain[0] - 1, axis.domain[1] + 1] : axis.domain, [height - 24, 62]));
  const shown = view.trials.filter((trial) => axes.every((axis) => Number.isFinite(axis.of(trial))));
  const rank = (trial) => (trial.number === selected.trial ? 2 : trial.group === "best" ? 1 : 0);
  for (const trial of [...shown].sort((a, b) => rank(a) - rank(b)).slice(-400)) {
    const points = axes.map((axis, i) => [i, tall[i](axis.of(trial))]);
    plot.append(element("path", { class: `curve ${rank(trial) === 2 ? "chosen" : trial.group} ${rank(trial) ? "" : "other"}`, d: path(points, place, (value) => value) }));
  }
  axes.forEach((axis, i) => plot.append(
    element("line", { class: "axis", x1: place(i), x2: place(i), y1: 62, y2: height - 24 }),
    element("text", { x: place(i), y: 12 + 15 * (i % 3), "text-anchor": i ? (i === axes.length - 1 ? "end" : "middle") : "start" }, axis.name),
    element("text", { x: place(i), y: height - 8, "text-anchor": "middle" }, number(axis.domain[0], 2)),
    element("text", { x: place(i), y: 58, "text-anchor": "middle" }, number(axis.domain[1], 2))));
  return plot;
}

function forestChart(view, metric, width) {
  const { arms, reference } = view.comparison, row = 24, height = 44 + arms.length * row, left = Math.min(270, width * 0.42);
  const known = arms.flatMap((arm) => [arm.metrics[metric].mean, ...(arm.metrics[metric].interval || [])]);
  const x = scale(extent(known), [left, width - 14]), axis = ticks(...extent(known), (width - left) / 80);
  const plot = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${metric} of each arm: mean and 95 % interval` });
  plot.append(element("text", { class: "title", x: 0, y: 14 }, view.words[metric][0]));
  for (const at of axis.at) plot.append(element("line", { class: "grid", x1: x(at), x2: x(at), y1: 22, y2: height - 20 }), element("text", { x: x(at), y: height - 5, "text-anchor": "middle" }, at.toFixed(axis.digits)));
  const usual = arms.find((arm) => arm.name === reference).metrics[metric].mean;
  if (Number.isFinite(usual)) plot.append(element("line", { class: "limit", x1: x(usual), x2: x(usual), y1: 22, y2: height - 20 }));
  arms.forEach((arm, i) => {
    const y = 34 + i * row, { mean, interval } = arm.metrics[metric], differs = arm.differs && metric === view.comparison.deciding;
    plot.append(element("text", { x: 0, y: y + 4 }, (differs ? "* " : "") + arm.name));
    if (!Number.isFinite(mean)) return;
    plot.append(element("g", { class: arm.name === reference ? "baseline" : differs ? "best" : "dominated" },
      interval && element("line", { class: "whisker", x1: x(interval[0]), x2: x(interval[1]), y1: y, y2: y }), mark(differs ? "best" : "baseline", x(mean), y, 4)));
  });
  return plot;
}

function precisionRecallChart(one, width) {
  return frame(width, {
    label: `Precision and recall of ${one.name}`, title: `${one.name}: right (precision) ↑`, height: 240, x: { domain: [0, 1], name: "found (recall) →" }, y: { domain: [0, 1.02] },
  }, (x, y, plot) => {
    one.lines.forEach((line, i) => {
      const kind = i ? "best" : "baseline";
      if (line.points.length > 1) plot.append(element("path", { class: `curve ${kind}`, "stroke-dasharray": i ? null : "5 3", d: path(line.points, x, y) }));
      if (line.at) plot.append(mark(kind, x(line.at[0]), y(line.at[1]), 5));
    });
  });
}
