// The report of an experiment: conclusions, then measures.

import { GOALS } from "./admin-experiment-form.js";
import { moment, number, percent, table } from "./admin-ui.js";
import { el } from "./dom.js";

const RATES = new Set(["click_through", "empty", "abandoned"]);

/** The report as a section, with the button `close`. */
export function reportOf({ experiment, analysis, ...report }, close) {
  const { draft, comparisons, variants, decisions, warnings } = analysis;
  const wrong = [...report.notices, ...warnings];
  const from = new Date(report.begins) > new Date(report.first) ? report.begins : report.first;
  const until = report.over && new Date(report.over) < new Date(report.last) ? report.over : report.last;
  return el("section", { "aria-label": "Report" }, el("h2", { tabindex: "-1", text: `Results of ${experiment.id}` }),
    el("p", { class: "hint", text: `State: ${report.state}. Events from ${moment(from)} to ${moment(until)}, in tables of ${moment(report.made)}.` }),
    wrong.map((text) => el("p", { class: "notice", text })),
    decisions.map(({ outcome, text }) => el("p", {}, el("b", { text: `${outcome}: ` }), text)),
    draft ? winsOf(draft, experiment) : figuresOf(variants), comparisons.length ? comparisonsOf(comparisons) : null,
    el("p", { class: "hint", text: "Anytime-valid intervals hold at every look, and conclusions use them; fixed-sample intervals hold only at an end that was planned in advance." }),
    el("div", { class: "buttons" }, close));
}

/** The options of a variant as text. */
export function optionsOf({ options = {} }) {
  return Object.entries(options).map(([name, value]) => `${name} ${value}`).join(", ") || "unchanged";
}

function figuresOf(variants) {
  return table("Variants", [
    ["variant", ({ name }) => name],
    ["units", ({ units }) => number(units), true],
    ["shoppers", ({ shoppers }) => number(shoppers), true],
    ["searches", ({ searches }) => number(searches), true],
    ...Object.entries(GOALS).map(([goal, words]) => [words, ({ figures }) => figure(goal, figures[goal]), true]),
  ], variants);
}

function comparisonsOf(comparisons) {
  return table("Differences", [
    ["variant", (row) => el(row.decides ? "b" : "span", { text: row.variant })],
    ["measure", ({ goal }) => GOALS[goal]],
["difference", (row) => moved(row.goal, row.difference), true],
    ["relative", ({ relative }) => (relative === null ? "–" : signed(100 * relative, 1, "%")), true],
    ["anytime-valid, 95%", (row) => between(row.goal, row.always), true],
    ["fixed-sample, 95%", (row) => between(row.goal, row.fixed), true],
  ], comparisons);
}

function winsOf(draft, { variants: [control] }) {
  const span = (found) => (found ? `${percent(found.low)} to ${percent(found.high)}` : "–");
  return table("Wins", [
    ["wins of", ({ variant }) => `${variant} over ${control.name}`],
    ...["shoppers", "searches", "wins", "losses", "ties"].map((name) => [name, (row) => number(row[name]), true]),
    ["share", (row) => percent(row.win_share), true],
    ["anytime-valid, 95%", ({ always }) => span(always), true],
    ["fixed-sample, 95%", ({ fixed }) => span(fixed), true],
  ], [draft]);
}

function figure(goal, value) {
  return RATES.has(goal) ? percent(value) : number(value, 4);
}

function moved(goal, value) {
  return RATES.has(goal) ? signed(100 * value, 2, " points") : signed(value, 4);
}

function between(goal, { low, high }) {
  return `${moved(goal, low).replace(" points", "")} to ${moved(goal, high)}`;
}

function signed(value, digits, unit = "") {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}${unit}`;
}
