// Experiments: the list, a form, reports and stopping.

import { call } from "./api.js";
import { documentsPart } from "./admin-documents.js";
import { attempt, button, counts, moment, notice, number, opener, percent, table, tag } from "./admin-ui.js";
import { el } from "./dom.js";

const TAGS = { running: "in_stock", waiting: "preorder" };
const UNCHANGED = [undefined, "unchanged"];
const GOALS = {
  click_through: "clicked searches", empty: "empty searches", abandoned: "abandoned searches", carts: "carts a shopper", purchases: "purchases a shopper",
};
const RATES = new Set(["click_through", "empty", "abandoned"]);
const figure = (name, label, props) => [name, label, { type: "number", min: 0, step: "any", ...props }];

export const experimentsPart = () => documentsPart({
  kind: "experiments",
  one: "experiment",
  title: "Experiments",
  hint: "Compares ways of ranking by shoppers' behaviour. A running experiment can be stopped but not changed.",
  start: { variants: [{ name: "now" }, { name: "new" }] },
  columns: ({ details: { states } }) => [
    ["state", ({ id }) => tag(states[id].state, TAGS)],
    ["from", ({ starts }) => moment(starts)],
    ["until", ({ ends }) => moment(ends)],
    ["mode", ({ mode = "split", unit = "shopper", share = 1 }) => `${mode} by ${unit}${share === 1 ? "" : ` of ${percent(share)}`}`],
    ["variants", ({ variants }) => variants.map((each) => el("p", { text: `${each.name}: ${optionsOf(each)}` }))],
  ],
  buttons: (experiment, part, { details: { states } }) => {
    const { id } = experiment;
    const { state } = states[id];
    const path = `/v1/experiments/${encodeURIComponent(id)}`;
    const report = () => attempt(part.status, async () => part.show(reportOf(await call(`${path}/report`), button("Close", part.close, "primary plain"))));
    return [
      ["draft", "waiting"].includes(state) ? opener("Edit", id, () => part.edit(experiment)) : opener("Report", id, report, " on "),
      opener("Copy", id, () => part.edit({ ...experiment, id: undefined, starts: undefined, ends: undefined })),
      state === "running" ? part.act("Stop", id, [path, "PATCH", { enabled: false }], `${id} is stopped`, `Stop ${id} permanently? Its results are kept.`) : null,
    ];
  },
  lines: async () => {
    const { rankers } = await call("/v1/models");
    const names = ["off", "default", ...rankers.filter(({ problem, misfit }) => !problem && !misfit).map(({ name }) => name)];
    return [
      [["id", "Id", { required: true, maxlength: 32 }], ["name", "Name", { maxlength: 200 }], ["enabled", "Enabled", { type: "checkbox", value: true }]],
      [["mode", "Mode", { options: [["split", "each shopper sees one variant"], ["interleave", "all shoppers see both, interleaved"]], value: "split" }],
        ["unit", "Assign by", { options: [["shopper", "a shopper"], ["session", "a session"], ["query", "a shopper's text"]], value: "shopper" }],
        figure("share", "Share of all shoppers", { placeholder: 1, max: 1 })],
      [["starts", "From", { type: "datetime-local" }], ["ends", "Until", { type: "datetime-local" }]],
      [["goal", "Deciding measure", { options: Object.entries(GOALS), value: "click_through" }], figure("planned", "Expected shoppers", { placeholder: 10_000, step: 1 }),
        figure("least_effect", "Smallest relevant difference", { placeholder: 0.02 }), ["aa_test", "A/A test: all variants are equal on purpose", { type: "checkbox", value: false }]],
      [["variants", "Add a variant", {
        hint: "The first variant is the baseline.",
        one: "Variant",
        each: [
          [["name", "Name", { required: true, maxlength: 16 }], figure("weight", "Weight", { placeholder: 1 })],
          [["options", "", { lines: [[
            ["stage", "Stage", { options: [UNCHANGED, ["merged", "merged"], ["ranked", "ranked"]] }], ["merge", "Merge method", { placeholder: "unchanged" }],
            ["rules", "Rules", { options: [UNCHANGED, [true, "with rules"], [false, "without rules"]] }], ["ranker", "Ranker", { options: [UNCHANGED, ...names.map((each) => [each, each])] }],
          ]] }]],
        ],
      }]],
    ];
  },
});

/** The report as a section, with the button `close`. */
function reportOf({ experiment, analysis, ...report }, close) {
  const { draft, comparisons, variants, decisions, warnings } = analysis;
  const from = new Date(report.begins) > new Date(report.first) ? report.begins : report.first;
  const until = report.over && new Date(report.over) < new Date(report.last) ? report.over : report.last;
  const share = (interval) => (interval ? `${percent(interval.low)} to ${percent(interval.high)}` : "–");
  return el("section", { "aria-label": "Report" }, el("h2", { tabindex: "-1", text: `Results of ${experiment.id}` }),
    el("p", { class: "hint", text: `State: ${report.state}. Events from ${moment(from)} to ${moment(until)}, in tables of ${moment(report.made)}.` }),
    [...report.notices, ...warnings].map(notice),
    decisions.map(({ outcome, text }) => el("p", {}, el("b", { text: `${outcome}: ` }), text)),
    draft ? table("Wins", [
      ["wins of", ({ variant }) => `${variant} over ${experiment.variants[0].name}`],
      ...counts("shoppers", "searches", "wins", "losses", "ties"),
      ["share", (row) => percent(row.win_share), true],
      ["anytime-valid, 95%", ({ always }) => share(always), true],
      ["fixed-sample, 95%", ({ fixed }) => share(fixed), true],
    ], [draft]) : table("Variants", [
      ["variant", ({ name }) => name],
      ...counts("units", "shoppers", "searches"),
      ...Object.entries(GOALS).map(([goal, words]) => [words, ({ figures }) => (RATES.has(goal) ? percent(figures[goal]) : number(figures[goal], 4)), true]),
    ], variants),
    table("Differences", [
      ["variant", (row) => el(row.decides ? "b" : "span", { text: row.variant })],
      ["measure", ({ goal }) => GOALS[goal]],
      ["difference", ({ goal, difference }) => moved(goal, difference), true],
      ["relative", ({ relative }) => (relative === null ? "–" : `${signed(100 * relative, 1)}%`), true],
      ["anytime-valid, 95%", ({ goal, always }) => `${moved(goal, always.low)} to ${moved(goal, always.high)}`, true],
      ["fixed-sample, 95%", ({ goal, fixed }) => `${moved(goal, fixed.low)} to ${moved(goal, fixed.high)}`, true],
    ], comparisons),
    el("p", { class: "hint", text: "Anytime-valid intervals hold at every look, and conclusions use them; fixed-sample intervals hold only at an end that was planned in advance." }),
    el("div", { class: "buttons" }, close));
}

/** The options of a variant as text. */
function optionsOf({ options = {} }) {
  return Object.entries(options).map(([name, value]) => `${name} ${value}`).join(", ") || "unchanged";
}

/** A difference of a measure, for rates in percentage points. */
function moved(goal, value) {
  return RATES.has(goal) ? `${signed(100 * value, 2)} points` : signed(value, 4);
}

function signed(value, digits) {
  return value.toLocaleString("en", { signDisplay: "always", minimumFractionDigits: digits, maximumFractionDigits: digits });
}
