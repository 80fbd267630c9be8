// Relevance settings: a form, its preview on a query, and the restoration of revisions.

import { call } from "./api.js";
import { button, check, editor, field, formOf, head, line, listPart, notice, place, tryForm, valuesOf } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const WEIGHTED = ["title", "brand", "category", "description"];
const TOLERANCES = [["on", "search for certain corrections"], ["offer", "only offer corrections"], ["off", "none"]];
const WEIGHTS_HINT = "The weight multiplies the term frequencies of a field; 0 ignores the field; unlisted attributes have weight 1. Weights take effect with the next rebuild, so a preview does not show them.";

export function relevancePart() {
  const part = listPart(async ({ list, done, showPast }) => {
    const { documents: [relevance], faults, details } = await call("/v1/relevance");
    const form = relevanceForm(relevance, faults, details.fields_in_effect);
    const send = async (settings) => {
      await call("/v1/relevance", { method: "PUT", body: { documents: [settings] } });
      await done("The settings are saved");
    };
    fill(list, editor({ title: "Settings", label: "Settings", form, send, others: tryForm("relevance", () => [form.value()]) }));
    await showPast("relevance", [["changed", changedOf]], "The settings");
  });
  return [...head("Relevance", "Settings apply as soon as they are saved. Try them on a search first."), part.status, part.list, part.past];
}

function changedOf({ before, after }) {
  if (!after) return "defaults";
  const names = Object.keys(after).filter((name) => JSON.stringify(after[name]) !== JSON.stringify(before?.[name]));
  return before ? names.join(", ") : "first settings";
}

function relevanceForm(relevance, faults, inEffect) {
  const figure = (label, value, props) => field(label, { type: "number", required: true, value, ...props });
  const fields = {
    cutoff: figure("Cutoff (higher: fewer queries have hits)", relevance.cutoff, { min: -3, max: 3, step: 0.05 }),
    margin: figure("Margin (lower: fewer hits)", relevance.margin, { min: 0.5, max: 10, step: 0.05 }),
    typo_tolerance: field("Spelling corrections", { value: relevance.typo_tolerance }, TOLERANCES),
    never_corrected: field("Words that are never corrected, separated by commas", { list: ",", value: relevance.never_corrected, wide: true }),
    hidden: field("Fields visible only to keys with the scope admin, separated by commas", { list: ",", value: relevance.hidden, wide: true }),
  };
  const weights = Object.fromEntries(WEIGHTED.map((name) => [name, figure(name, relevance.fields[name], { min: 0, max: 10 })]));
  const attributes = field("Attributes", { value: pairsOf(relevance.fields.attributes), placeholder: "colour: 3, material: 0", wide: true });
  const list = place();
  let signals = [];
  const add = (signal, fault) => {
    const own = {
      field: field("Field", { required: true, value: signal.field, placeholder: "rating" }),
      weight: figure("Weight", signal.weight, { min: 0.05, max: 10, step: 0.05 }),
      descending: check("Higher is better", signal.descending),
    };
    const element = line(...Object.values(own), fault ? el("p", { class: "faults", text: fault }) : "", button("Remove", () => {
      signals = signals.filter((each) => each !== own);
      element.remove();
    }, "small", { "aria-label": "Remove this signal" }));
    signals.push(own);
    list.append(element);
    return own;
  };
  relevance.signals.forEach((each) => add(each, faults[each.field]));
  const current = [...WEIGHTED.map((name) => `${name} ${inEffect[name]}`), pairsOf(inEffect.attributes)].filter(Boolean);
  const waits = WEIGHTED.some((name) => inEffect[name] !== relevance.fields[name]) || pairsOf(inEffect.attributes) !== pairsOf(relevance.fields.attributes);
  return {
    ...formOf(fields, [["cutoff", "margin", "typo_tolerance"], ["never_corrected"], ["hidden"]], [
      el("h2", { text: "Signals" }), el("p", { class: "hint", text: "Numeric fields, such as rating or margin, that move the first 100 hits." }), list,
      el("div", { class: "buttons" }, button("Add a signal", () => add({ field: "", weight: 1, descending: true }).field.input.focus())),
      el("h2", { text: "Weights of the searched fields" }), el("p", { class: "hint", text: WEIGHTS_HINT }),
      line(...Object.values(weights)), attributes.element, waits ? notice(`Until the next rebuild searches use ${current.join(", ")}.`) : null]),
    value: () => ({ ...valuesOf(fields), signals: signals.map(valuesOf), fields: { ...valuesOf(weights), attributes: weightsOf(attributes.input.value) } }),
  };
}

function pairsOf(weights) {
  return Object.entries(weights).map(([name, weight]) => `${name}: ${weight}`).sort().join(", ");
}

/** The weights in "colour: 3, material: 0"; invalid numbers are passed on, so that the server reports them. */
function weightsOf(text) {
  const parts = text.split(/[,，]/).map((each) => each.split(/[:：]/).map((part) => part.trim())).filter(([name]) => name);
  return Object.fromEntries(parts.map(([name, weight]) => [name, weight && !Number.isNaN(Number(weight)) ? Number(weight) : weight ?? ""]));
}
