"use strict";
// The page: what `view` holds, in order of what a reader asks. Drawn anew where something is selected or changes.
let view = JSON.parse(document.getElementById("view").textContent);
const selected = { trial: view.answer.trial };
let pinned = null; // the trial that stays shown whatever the pointer passes
const page = document.getElementById("page");
const h = element;

const metricName = (metric) => h("span", { title: view.words[metric] ? view.words[metric][1] : "" }, metric);
const paragraph = (text, kind = null) => h("p", { class: kind }, text);

function section(name, title, ...children) {
  return h("section", { id: name, "aria-labelledby": `${name}-title` }, h("h2", { id: `${name}-title` }, title), ...children);
}

// `name` is what a screen reader calls the table's region, so no two on the page are the same.
function table(name, heads, rows, numeric = []) {
  const kind = (i) => (numeric.includes(i) ? "number" : null);
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name },
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: kind(i) }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", row.attributes || {}, (row.cells || row).map((cell, i) => h("td", { class: kind(i) }, cell)))))));
}

function terms(pairs) {
  return h("dl", {}, pairs.filter(([, value]) => value !== null && value !== "").map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// Commands between backticks, and a way to where words are explained.
function written(text) {
  const parts = text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part.split(/(?<=under )(Words)/)));
  return parts.flat().map((part) => (part === "Words" ? h("a", { href: "#words" }, part) : part));
}

// "How sure: …", with what stands before the colon made plain to see.
function labelled(sentence) {
  const colon = sentence.indexOf(": ");
  return [h("b", {}, sentence.slice(0, colon + 1)), written(sentence.slice(colon + 1))];
}

function headline() {
  const { outcome, headline, sentences } = view.answer;
  const next = view.next.map((step) => h("li", {}, step.what === "next" ? "" : `${step.what}: `, h("code", {}, step.command)));
  return h("header", {},
    h("h1", {}, `${view.title} · ${view.task}${view.being ? ` · being ${view.being} now` : ""}`),
    view.away ? h("p", { class: "away", role: "status" }, view.away) : null,
    h("p", { class: "question" }, view.question),
    h("div", { class: `answer ${outcome}` }, h("p", { class: "headline" }, headline), h("span", { class: "badge" }, outcome), h("ul", {}, sentences.map((one) => h("li", {}, labelled(one))))),
    next.length ? h("div", {}, h("strong", {}, "Next"), h("ul", {}, next)) : null);
}

function details() {
  const trial = view.trials.find((one) => one.number === selected.trial);
  const card = h("div", { class: "card", id: "details", "aria-live": "polite" });
  if (selected.arm) {
    const arm = view.comparison.arms.find((one) => one.name === selected.arm);
    card.append(h("h3", {}, `Arm ${arm.name}`), paragraph(arm.strategy), paragraph(arm.details, "faint"), metricsOf((metric) => (arm.metrics[metric] || {}).mean));
  } else if (selected.baseline && view.baseline) {
    card.append(h("h3", {}, "Baseline"), paragraph(view.baseline.strategy), metricsOf((metric) => view.baseline.mean[metric]), notesOf(view.baseline.notes));
  } else if (trial) {
    card.append(h("h3", {}, `Trial ${trial.number}`, " ", trial.verdict ? h("span", { class: `badge ${trial.verdict}` }, trial.verdict) : h("span", { class: "badge" }, trial.group)),
      paragraph(trial.strategy), paragraph("In the search: one training, measured on the val split.", "faint"), metricsOf((metric) => trial.metrics[metric], true),
      terms([["exposure", trial.exposure === null ? null : `${(100 * trial.exposure).toFixed(0)} % of the drawn images hold the rare class`], ["training", trial.seconds === null ? null : `${trial.seconds} s`],
        ["breaks", trial.broken.join(", ")], ["failed", trial.failure]]), notesOf(trial.notes),
      h("a", { href: `#trial-${trial.number}`, onclick: () => { document.querySelector("#trials details").open = true; } }, "its row in the table"));
  } else card.append(paragraph("Point at a trial, or go from one to the next with the arrow keys.", "faint"));
  return card;
}

function metricsOf(value, against = false) {
  return terms(view.shown.map((metric) => {
    const usual = view.baseline && view.baseline.mean[metric], now = value(metric);
    const gain = against && metric !== "threshold" && Number.isFinite(usual) && Number.isFinite(now) ? ` (${signed(now - usual)})` : "";
    return [metricName(metric), number(now) + gain];
  }));
}

const notesOf = (notes) => h("div", {}, notes.length ? h("ul", { class: "faint" }, notes.map((note) => h("li", {}, note))) : null);

const KEYS = [["best", "on the front"], ["dominated", "feasible, but another is better"], ["infeasible", "breaks a limit"], ["stopped", "stopped early"], ["baseline", "baseline: mean ± sd of its seeds, the dots"], ["arm", "compared arm: mean, 95 %"]];

function legend() {
  const there = new Set(view.trials.map((trial) => trial.group).concat("baseline", view.comparison ? "arm" : "baseline"));
  return h("ul", { class: "legend" }, KEYS.filter(([name]) => there.has(name)).map(([name, text]) =>
    h("li", {}, h("svg", { viewBox: "0 0 16 14", "aria-hidden": "true" }, mark(name, 8, 7, 4, { class: `mark ${name} ${name === "baseline" ? "full" : ""}` })), text)));
}

function front() {
  if (!view.trials.length && !view.baseline) return section("front", "The front", paragraph("Nothing is finished yet."));
  const chart = h("div", { id: "front-chart" });
  const failed = view.trials.filter((trial) => trial.failure), judged = view.trials.filter((trial) => trial.verdict);
  return section("front", "The front", paragraph("Each point is one training. To the right it finds more of the rare class, upwards it keeps more overall."),
    judged.length ? paragraph(`What a confirmation has said counts for more than a place here: ${judged.map((trial) => `trial ${trial.number} ${trial.verdict}`).join(", ")}.`) : null,
    legend(), h("div", { class: "two" }, chart, details()),
    view.guards.length ? paragraph(`Limits: ${view.guards.map((guard) => guard.text + (guard.limit === null ? "" : ` (${number(guard.limit)})`)).join("; ")}.`, "faint") : null,
    failed.length ? paragraph(`Without a point: ${failed.map((trial) => `trial ${trial.number} (${trial.failure})`).join("; ")}.`, "faint") : null,
    paragraph(view.counts, "faint"));
}

function confirmed() {
  const found = view.confirmation;
  if (!found) return null;
  return section("verdict", `The verdict (${found.name}, look ${found.look} of ${found.looks})`,
    found.candidates.map((one) => h("div", {}, h("h3", {}, `${one.name} `, h("span", { class: `badge ${one.outcome}` }, one.outcome)), paragraph(one.strategy),
      paragraph(`${one.seeds.candidate} trainings against ${one.seeds.baseline} of the baseline`, "faint"),
      one.rows.length ? table(`What must hold of ${one.name}`, ["what must hold", "baseline", "candidate", "change", "asked", "bound", "holds"], one.rows.map((row) => [metricName(row.metric), number(row.baseline), number(row.candidate),
        row.against_baseline ? signed(row.gain) : "", signed(row.asked), signed(row.bound), row.holds ? "yes" : "not shown"]), [1, 2, 3, 4, 5]) : null)),
    h("details", {}, h("summary", {}, "All that was said of it"), h("ul", {}, found.sentences.map((one) => h("li", {}, written(one))))));
}

function curves() {
  if (!view.curves.metrics.some((metric) => Object.values(view.curves.trials).some((of) => of[metric].length))) return null;
  return section("curves", "While they learnt", paragraph("Grey band and dashed line: the baseline's seeds. A trial that is selected is thick."), h("div", { id: "curves-chart" }));
}

function compared() {
  if (!view.comparison) return null;
  const pairs = view.comparison.pairs, deciding = view.comparison.deciding;
  return section("arms", "Named strategies, with seeds", paragraph("Mean and 95 % interval over seeds; the dashed line is the reference. * differs after Holm's correction."),
    h("div", { id: "arms-chart" }), h("ul", { class: "faint" }, view.comparison.caption.map((one) => h("li", {}, one))),
    pairs.length ? table("Arms of equal exposure", ["of equal exposure", "against", `difference in ${deciding}`, "95 %"], pairs.map((pair) => [pair.first, pair.second, signed(pair.differences[deciding].value),
      pair.differences[deciding].interval ? pair.differences[deciding].interval.map(signed).join(" to ") : "–"]), [2, 3]) : null);
}

function knobs() {
  const parallel = view.knobs.length ? h("div", { id: "parallel-chart" }) : null;
  if (!parallel && !(view.effects || []).length) return null;
  return section("knobs", "What each knob does",
    (view.effects || []).length ? [paragraph("What a Gaussian process, fitted to the trials, expects when this knob alone is set and the others are as in the trials; the band holds its mean with 95 %. A band that a level line fits into says: not known."), h("div", { id: "effects-chart" })] : null,
    parallel ? [h("h3", {}, "Every trial a line, from its knobs to what came of it"), parallel] : null);
}

function classes() {
  const found = view.classes;
  if (!found) return null;
  if (found.kind === "precision_recall") return section("classes", "Precision and recall, class by class", paragraph(found.note, "faint"), h("div", { id: "classes-chart" }));
  return section("classes", "What is called what", paragraph(found.note, "faint"), found.matrices.map((one) => h("div", {}, h("h3", {}, one.name),
    table(`What is called what: ${one.name}`, ["true class", ...found.names], one.rows.map((row, i) => [found.names[i], ...row.map((share) => (share === null ? "–" : `${(100 * share).toFixed(0)} %`))]), found.names.map((_, i) => i + 1)))));
}

function pictures() {
  const found = view.pictures;
  if (!found) return null;
  return section("pictures", "Look at them", paragraph(found.note), found.groups.map((group) => h("div", {}, h("h3", {}, `${group.title} (${group.count})`),
    group.items.length ? h("div", { class: "crops" }, group.items.map((one) => h("figure", {}, h("div", { class: "pair" }, one.images.map((image) => h("img", { src: image.src, alt: image.alt }))), h("figcaption", {}, one.caption))))
      : paragraph("none", "faint"))));
}

function data() {
  const found = view.data;
  if (!found) return null;
  return section("data", "The data", found.rows.length ? table("Counts by split", found.heads, found.rows, found.heads.map((_, i) => i).slice(1)) : null,
    found.notes.length ? h("ul", {}, found.notes.map((note) => h("li", {}, note))) : null, paragraph(view.ledger, "faint"));
}

function trials() {
  if (!view.trials.length) return null;
  return section("trials", "All trials", paragraph("A number that lacks is the baseline's own place in the search, or a trial that was run again.", "faint"), h("details", { open: view.trials.length <= 40 }, h("summary", {}, `${view.trials.length} trials`),
    table("Trials, one a row", ["trial", "group", ...view.shown, "exposure", "strategy"], view.trials.map((trial) => ({
      attributes: { id: `trial-${trial.number}`, "aria-selected": trial.number === selected.trial ? "true" : null },
      cells: [h("button", { type: "button", onclick: () => { select({ trial: trial.number }); document.getElementById("front").scrollIntoView(); } }, String(trial.number)), trial.verdict || trial.group, ...view.shown.map((metric) => number(trial.metrics[metric])),
        trial.exposure === null ? "–" : `${(100 * trial.exposure).toFixed(0)} %`, trial.strategy] })), [0, ...view.shown.map((_, i) => i + 2), view.shown.length + 2])));
}

function provenance() {
  const made = view.provenance;
  return section("provenance", "How it was made", terms([["made", made.created], ["data", made.data], ["commit", made.commit], ["python", made.python], ...Object.entries(made.versions)]),
    h("h3", {}, "To make it again"), h("pre", { tabindex: 0 }, made.commands.join("\n")),
    made.request ? h("details", {}, h("summary", {}, "study.yaml"), h("pre", { tabindex: 0 }, made.request)) : null,
    h("h3", { id: "words" }, "Words"), terms(Object.entries(view.terms).concat(Object.entries(view.words).map(([metric, [name, meaning]]) => [metric, `${name}: ${meaning}`]), Object.entries(view.knob_words), Object.entries(view.named))));
}

function draw(name, make) {
  const place = document.getElementById(name);
  if (place) place.replaceChildren(...[make(Math.max(240, Math.floor(place.clientWidth)))].flat());
}

// Charts side by side, each at least so wide.
function cards(width, least, charts) {
  const columns = Math.max(1, Math.min(charts.length, Math.floor((width + 16) / (least + 16))));
  const each = Math.floor((width - 16 * (columns - 1)) / columns);
  return h("div", { class: "cards", style: `--columns: ${columns}` }, charts.map((chart) => h("div", {}, chart(each))));
}

function drawCharts() {
  const effects = (metric) => view.effects.filter((effect) => effect.metric === metric).map((effect) => (width) => effectChart(view, effect, width));
  draw("front-chart", (width) => frontChart(view, width, selected, select));
  draw("arms-chart", (width) => cards(width, 420, view.comparison.metrics.map((metric) => (each) => forestChart(view, metric, each))));
  draw("effects-chart", (width) => [...new Set(view.effects.map((effect) => effect.metric))].map((metric) => h("div", {}, h("h3", {}, view.words[metric][0]), cards(width, 165, effects(metric)))));
  draw("classes-chart", (width) => cards(width, 300, view.classes.lines.map((one) => (each) => precisionRecallChart(one, each))));
  drawSelected();
}

// What shows the selected trial beside the front.
function drawSelected() {
  draw("curves-chart", (width) => cards(width, 420, view.curves.metrics.map((metric) => (each) => curvesChart(view, metric, each, selected))));
  draw("parallel-chart", (width) => parallelChart(view, width, selected));
}

function select(what) {
  if (what.open) pinned = pinned === what.trial ? null : what.trial; // a click, or Enter, holds it; the next lets go
  else if (what.hover && pinned !== null) return;
  if (what.trial === selected.trial && !what.arm && !what.baseline && !selected.arm && !selected.baseline) return;
  Object.assign(selected, { arm: null, baseline: false }, what);
  document.getElementById("details").replaceWith(details());
  for (const row of document.querySelectorAll("#trials tbody tr")) row.setAttribute("aria-selected", String(row.id === `trial-${selected.trial}`));
  document.getElementById("front-plot").ringTo(selected.arm || selected.baseline ? null : selected.trial);
  drawSelected();
}

function show() {
  page.replaceChildren(...[headline(), front(), confirmed(), pictures(), curves(), compared(), classes(), knobs(), data(), trials(), provenance()].filter((one) => one !== null));
  drawCharts();
}

let drawnFor = 0;
new ResizeObserver(() => {
  if (page.clientWidth === drawnFor) return;
  drawnFor = page.clientWidth;
  drawCharts();
}).observe(page);
show();

// Live: asked again and again; what has not changed is not sent.
async function refresh() {
  try {
    const answer = await fetch(`data.json${location.search}`, { headers: { "If-None-Match": refresh.version || "" } });
    if (answer.status === 200) {
      refresh.version = answer.headers.get("ETag");
      view = await answer.json();
      const [x, y] = [scrollX, scrollY];
      show();
      scrollTo(x, y);
    }
    document.title = view.title;
  } catch (error) {
    document.title = `${view.title} (not reached)`;
  }
  setTimeout(refresh, 1500);
}
if (document.body.dataset.live === "true") setTimeout(refresh, 1500);
