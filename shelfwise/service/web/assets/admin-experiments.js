// Experiments: the list, a form, reports and stopping.

import { call } from "./api.js";
import { attempt, button, check, counts, field, formOf, head, line, listPart, moment, momentField, notice, number, opener, orJson, percent, place, table, tag, valuesOf } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const STATES = ["running", "waiting", "draft", "ended"];
const TAGS = { running: "in_stock", waiting: "preorder" };
const AS_IT_IS = ["", "unchanged"];
const MODES = [["split", "each shopper sees one variant"], ["interleave", "all shoppers see both, interleaved"]];
const UNITS = [["shopper", "a shopper"], ["session", "a session"], ["query", "a shopper's text"]];
const GOALS = {
  click_through: "clicked searches", empty: "empty searches", abandoned: "abandoned searches", carts: "carts a shopper", purchases: "purchases a shopper",
};
const RATES = new Set(["click_through", "empty", "abandoned"]);
const STAGES = [AS_IT_IS, ["merged", "merged"], ["ranked", "ranked"]];
const RULES = [AS_IT_IS, ["true", "with rules"], ["false", "without rules"]];

export function experimentsPart() {
  const part = listPart(async ({ list }) => {
    const { documents, faults, details: { states } } = await call("/v1/experiments");
    const experiments = documents.map((experiment) => ({ experiment, fault: faults[experiment.id], ...states[experiment.id] }));
    const inOrder = experiments.sort((one, other) => STATES.indexOf(one.state) - STATES.indexOf(other.state));
    fill(list, inOrder.length ? table("Experiments", [
      ["experiment", ({ experiment, fault }) => el("div", {}, el("b", { text: experiment.id }), experiment.name ? ` ${experiment.name}` : null, fault ? el("p", { class: "faults", text: fault }) : null)],
      ["state", ({ state }) => tag(state, TAGS)],
      ["from", ({ experiment }) => moment(experiment.starts)],
      ["until", ({ experiment }) => moment(experiment.ends)],
      ["mode", ({ experiment: { mode = "split", unit = "shopper", share = 1 } }) => `${mode} by ${unit}${share === 1 ? "" : ` of ${percent(share)}`}`],
      ["variants", ({ experiment }) => experiment.variants.map((each) => el("p", { text: `${each.name}: ${optionsOf(each)}` }))],
      ["", buttons],
    ], inOrder) : el("p", { text: "There are no experiments yet." }));
  });
  const buttons = ({ experiment, state }) => {
    const { id } = experiment;
    const path = `/v1/experiments/${encodeURIComponent(id)}`;
    const report = () => attempt(part.status, async () => part.show(reportOf(await call(`${path}/report`), button("Close", part.close, "primary plain"))));
    return el("div", { class: "buttons" },
      ["draft", "waiting"].includes(state) ? opener("Edit", id, () => edit(experiment)) : opener("Report", id, report, " on "),
      opener("Copy", id, () => edit({ ...experiment, id: "", starts: undefined, ends: undefined })),
      state === "running" ? part.act("Stop", id, [path, "PATCH", { enabled: false }], `${id} is stopped`, `Stop ${id} permanently? Its results are kept.`) : null);
  };
  const edit = (experiment) => attempt(part.status, async () => {
    const { rankers } = await call("/v1/models");
    const names = rankers.filter(({ problem, misfit }) => !problem && !misfit).map(({ name }) => name);
    const form = orJson(experiment, (values) => experimentForm(values, names), "The experiment as JSON");
    const save = (changed) => call("/v1/experiments", { method: "PUT", body: { documents: [changed] } });
    part.edit(experiment.id ? `Experiment ${experiment.id}` : "New experiment", form, save, "The experiment is saved");
  });
  return [...head("Experiments", "Compares ways of ranking by shoppers' behaviour. A running experiment can be stopped but not changed."),
    el("div", { class: "buttons" }, button("New experiment", () => edit({ id: "" }), "primary")), part.status, part.list, part.below];
}

function experimentForm(values, rankers) {
  const figure = (name, label, props) => field(label, { type: "number", min: 0, step: "any", value: values[name], ...props });
  const fields = {
    id: field("Id", { value: values.id, required: true, maxlength: 32, readonly: Boolean(values.id) }),
    name: field("Name", { value: values.name, maxlength: 200 }),
    enabled: check("Enabled", values.enabled !== false),
    mode: field("Mode", { value: values.mode || "split" }, MODES),
    unit: field("Assign by", { value: values.unit || "shopper" }, UNITS),
    share: figure("share", "Share of all shoppers", { placeholder: 1, max: 1 }),
    starts: momentField("From", values.starts),
    ends: momentField("Until", values.ends),
    goal: field("Deciding measure", { value: values.goal || "click_through" }, Object.entries(GOALS)),
    planned: figure("planned", "Expected shoppers", { placeholder: 10_000, step: 1 }),
    least_effect: figure("least_effect", "Smallest relevant difference", { placeholder: 0.02 }),
    aa_test: check("A/A test: all variants are equal on purpose", values.aa_test),
  };
  const variants = variantsOf(values.variants || [{ name: "now" }, { name: "new" }], rankers);
  const lines = [["id", "name", "enabled"], ["mode", "unit", "share"], ["starts", "ends"], ["goal", "planned", "least_effect", "aa_test"]];
  return {
    ...formOf(fields, lines, variants.element),
    value: () => ({ ...without(values, fields), ...valuesOf(fields), variants: variants.value() }),
    faulty(error) {
      const at = /variants\[(\d+)\]/.exec(error.message)?.[1];
      return (at === undefined && fields[error.field]) || variants.faulty(error.field, at);
    },
  };
}

function variantsOf(values, rankers) {
  const list = place();
  const shown = [];
  const more = field("Add a variant", { placeholder: "its name", maxlength: 16 });
  const label = () => shown.forEach(({ element }, at) => {
    element.firstChild.replaceChildren(at ? `Variant ${at + 1}` : "Variant 1, the baseline");
    element.lastChild.setAttribute("aria-label", `Remove variant ${at + 1}`);
  });
  const add = (variant) => {
    const part = variantOf(variant, rankers, () => {
      shown.splice(shown.indexOf(part), 1);
      part.element.remove();
      label();
    });
    shown.push(part);
    list.append(part.element);
    label();
  };
  values.forEach(add);
  return {
    element: el("div", { class: "rule" }, list, line(more, button("Add", () => {
      add({ name: more.input.value.trim() });
      more.input.value = "";
    }))),
    value: () => shown.map((each) => each.value()),
    /** The field of this name in the variant at index `at`, else in the first variant where it is filled. */
    faulty(name, at) {
      if (at !== undefined) return shown[at] && (shown[at].fields[name] || { ...shown[at], input: shown[at].fields.stage.input });
      const there = shown.map(({ fields }) => fields[name]).filter(Boolean);
      return there.find(({ input }) => input.value) || there[0] || (name === "variants" ? more : undefined);
    },
  };
}

function variantOf({ name, weight, options = {}, ...others }, rankers, remove) {
  const names = [...new Set(["off", "default", ...rankers, ...(options.ranker ? [options.ranker] : [])])];
  const own = { name: field("Name", { value: name, required: true, maxlength: 16 }), weight: field("Weight", { type: "number", min: 0, step: "any", value: weight, placeholder: 1 }) };
  const optional = {
    stage: field("Stage", { value: options.stage || "" }, STAGES),
    merge: field("Merge method", { value: options.merge, placeholder: "unchanged" }),
    rules: field("Rules", { value: String(options.rules ?? "") }, RULES),
    ranker: field("Ranker", { value: options.ranker || "" }, [AS_IT_IS, ...names.map((each) => [each, each])]),
  };
  const fields = { ...own, ...optional };
  const element = el("fieldset", { class: "action" }, el("legend"), Object.values(fields).map((each) => each.element), button("Remove", remove));
  return {
    fields,
    element,
    value() {
      const values = { ...without(options, optional), ...valuesOf(optional) };
      if (values.rules) values.rules = values.rules === "true";
      return { ...others, ...valuesOf(own), ...(Object.keys(values).length ? { options: values } : {}) };
    },
  };
}

/** An object without the names of another. */
function without(values, others) {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !(name in others)));
}

/** The report as a section, with the button `close`. */
function reportOf({ experiment, analysis, ...report }, close) {
  const { draft, comparisons, variants, decisions, warnings } = analysis;
  const wrong = [...report.notices, ...warnings];
  const from = new Date(report.begins) > new Date(report.first) ? report.begins : report.first;
  const until = report.over && new Date(report.over) < new Date(report.last) ? report.over : report.last;
  return el("section", { "aria-label": "Report" }, el("h2", { tabindex: "-1", text: `Results of ${experiment.id}` }),
    el("p", { class: "hint", text: `State: ${report.state}. Events from ${moment(from)} to ${moment(until)}, in tables of ${moment(report.made)}.` }),
    wrong.map(notice),
    decisions.map(({ outcome, text }) => el("p", {}, el("b", { text: `${outcome}: ` }), text)),
    draft ? winsOf(draft, experiment) : figuresOf(variants), comparisons.length ? comparisonsOf(comparisons) : null,
    el("p", { class: "hint", text: "Anytime-valid intervals hold at every look, and conclusions use them; fixed-sample intervals hold only at an end that was planned in advance." }),
    el("div", { class: "buttons" }, close));
}

/** The options of a variant as text. */
function optionsOf({ options = {} }) {
  return Object.entries(options).map(([name, value]) => `${name} ${value}`).join(", ") || "unchanged";
}

function figuresOf(variants) {
  return table("Variants", [
    ["variant", ({ name }) => name],
    ...counts("units", "shoppers", "searches"),
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
    ...counts("shoppers", "searches", "wins", "losses", "ties"),
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
