// Relevance settings: a form, its preview on a query, and the restoration of revisions.

import { call } from "./api.js";
import { attempt, button, check, field, head, historyOf, place } from "./admin-ui.js";
import { previewOf } from "./admin-rules.js";
import { announce } from "./announce.js";
import { el, fill } from "./dom.js";

const WEIGHTED = ["title", "brand", "category", "description"];
const TOLERANCES = [["on", "search for certain corrections"], ["offer", "only offer corrections"], ["off", "none"]];

export function relevancePart() {
  const status = place();
  const editor = place();
  const past = place();
  const done = async (text) => {
    announce(text);
    await refresh();
  };
  const refresh = () => attempt(status, async () => {
    const { relevance, faults, fields_in_effect: inEffect } = await call("/v1/relevance");
    fill(editor, editorOf(relevance, faults, inEffect, done));
    const { changes } = await call("/v1/relevance/history?limit=20");
    fill(past, changes.length ? historyOf(changes, columns, question, restore) : null);
  });
  const columns = [["changed", changedOf]];
  const restore = (revision) => attempt(status, async () => {
    await call("/v1/relevance/restore", { method: "POST", body: { revision } });
    await done(`Settings of revision ${revision} are restored`);
  });
  const question = (revision) => `Restore the settings of revision ${revision}?`;
  refresh();
  return [...head("Relevance", "Settings apply as soon as they are saved. Try them on a search first."), status, editor, past];
}

function changedOf({ before, after }) {
  if (!after) return "defaults";
  const names = Object.keys(after).filter((name) => JSON.stringify(after[name]) !== JSON.stringify(before?.[name]));
  return before ? names.join(", ") : "first settings";
}

function editorOf(relevance, faults, inEffect, saved) {
  const status = place();
  const preview = place();
  const form = formOf(relevance, faults, inEffect);
  const query = field("Try it on", { placeholder: "a query", wide: true });
  const tryIt = (event) => {
    event.preventDefault();
    attempt(status, async () => {
      const body = { q: query.input.value, put: form.value(), size: 20 };
      fill(preview, previewOf(await call("/v1/relevance/preview", { method: "POST", body })));
    });
  };
  const save = () => attempt(status, async () => {
    await call("/v1/relevance", { method: "PUT", body: form.value() });
    await saved("The settings are saved");
  });
  return el("section", { "aria-label": "Settings" }, form.element, status,
    el("form", { class: "line", onsubmit: tryIt }, query.element, el("button", { class: "small", text: "What would this change?" })), preview,
    el("div", { class: "buttons" }, button("Save", save, "primary")));
}

function formOf(relevance, faults, inEffect) {
  const cutoff = field("Cutoff (higher: fewer queries have hits)", { type: "number", min: -3, max: 3, step: 0.05, value: relevance.cutoff });
  const margin = field("Margin (lower: fewer hits)", { type: "number", min: 0.5, max: 10, step: 0.05, value: relevance.margin });
  const typos = field("Spelling corrections", { value: relevance.typo_tolerance }, TOLERANCES);
  const words = field("Words that are never corrected, separated by commas", { value: relevance.never_corrected.join(", "), wide: true });
  const hidden = field("Fields visible only to keys with the scope admin, separated by commas", { value: relevance.hidden.join(", "), wide: true });
  const list = place();
  let signals = relevance.signals.map((each) => signalOf(each, faults[each.field]));
  const show = () => fill(list, signals.map((signal) => el("div", { class: "line" }, signal.element,
    button("Remove", () => {
      signals = signals.filter((each) => each !== signal);
      show();
    }, "small", { "aria-label": "Remove this signal" }))));
  const add = () => {
    signals.push(signalOf({ field: "", weight: 1, descending: true }));
    show();
    signals.at(-1).input.focus();
  };
  show();
  const weights = WEIGHTED.map((name) => field(name, { type: "number", min: 0, max: 10, value: relevance.fields[name] }));
  const attributes = field("Attributes", { value: pairsOf(relevance.fields.attributes), placeholder: "colour: 3, material: 0", wide: true });
  const waits = WEIGHTED.some((name) => inEffect[name] !== relevance.fields[name]) || pairsOf(inEffect.attributes) !== pairsOf(relevance.fields.attributes);
  const weightsHint = "The weight multiplies the term frequencies of a field; 0 ignores the field; unlisted attributes have weight 1. Weights take effect with the next rebuild, so a preview does not show them.";
  const inUse = `Until the next rebuild searches use ${WEIGHTED.map((name) => `${name} ${inEffect[name]}`).join(", ")}${pairsOf(inEffect.attributes) && `, ${pairsOf(inEffect.attributes)}`}.`;
  return {
    element: el("div", { class: "rule" }, el("div", { class: "line" }, cutoff.element, margin.element, typos.element), words.element, hidden.element,
      el("h2", { text: "Signals" }), el("p", { class: "hint", text: "Numeric fields, such as rating or margin, that move the first 100 hits." }), list,
      el("div", { class: "buttons" }, button("Add a signal", add)),
      el("h2", { text: "Weights of the searched fields" }), el("p", { class: "hint", text: weightsHint }),
      el("div", { class: "line" }, ...weights.map(({ element }) => element)), attributes.element, waits ? el("p", { class: "notice", text: inUse }) : null),
    value: () => ({
      cutoff: numberOf(cutoff),
      margin: numberOf(margin),
      typo_tolerance: typos.input.value,
      never_corrected: listOf(words),
      hidden: listOf(hidden),
      signals: signals.map((each) => each.value()),
      fields: { ...Object.fromEntries(WEIGHTED.map((name, at) => [name, numberOf(weights[at])])), attributes: weightsOf(attributes.input.value) },
    }),
  };
}

function listOf({ input }) {
  return input.value.split(/[,，]/).map((each) => each.trim()).filter(Boolean);
}

function signalOf({ field: name, weight, descending }, fault) {
  const named = field("Field", { value: name, placeholder: "rating" });
  const strength = field("Weight", { type: "number", min: 0.05, max: 10, step: 0.05, value: weight });
  const isHighBest = check("Higher is better", descending);
  return {
    input: named.input,
    element: el("div", { class: "line" }, named.element, strength.element, isHighBest.element, fault ? el("p", { class: "faults", text: fault }) : null),
    value: () => ({ field: named.input.value.trim(), weight: numberOf(strength), descending: isHighBest.input.checked }),
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

/** The number in a field; invalid text is passed on, so that the server reports it. */
function numberOf({ input }) {
  return input.value.trim() === "" || Number.isNaN(Number(input.value)) ? input.value : Number(input.value);
}
