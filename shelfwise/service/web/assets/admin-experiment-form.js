// The form of an experiment.

import { editor } from "./admin-editor.js";
import { button, check, field, momentField, place } from "./admin-ui.js";
import { el } from "./dom.js";

const AS_IT_IS = ["", "unchanged"];
const MODES = [["split", "each shopper sees one variant"], ["interleave", "all shoppers see both, interleaved"]];
const UNITS = [["shopper", "a shopper"], ["session", "a session"], ["query", "a shopper's text"]];
export const GOALS = {
  click_through: "clicked searches", empty: "empty searches", abandoned: "abandoned searches", carts: "carts a shopper", purchases: "purchases a shopper",
};
const STAGES = [AS_IT_IS, ["merged", "merged"], ["ranked", "ranked"]];
const RULES = [AS_IT_IS, ["true", "with rules"], ["false", "without rules"]];

/** An editor of an experiment; `rankers` are the names of the available rankers. */
export function experimentForm(given, rankers) {
  return editor(given, (values) => formOf(values, rankers), "The experiment as JSON");
}

function formOf(values, rankers) {
  const fields = {
    id: field("Id", { value: values.id, required: true, maxlength: 32, readonly: Boolean(values.id) }),
    name: field("Name", { value: values.name, maxlength: 200 }),
    mode: field("Mode", { value: values.mode || "split" }, MODES),
    unit: field("Assign by", { value: values.unit || "shopper" }, UNITS),
    share: numeric("Share of all shoppers", values.share, { placeholder: 1, max: 1 }),
    starts: momentField("From", values.starts),
    ends: momentField("Until", values.ends),
    goal: field("Deciding measure", { value: values.goal || "click_through" }, Object.entries(GOALS)),
    planned: numeric("Expected shoppers", values.planned, { placeholder: 10_000, step: 1 }),
    least_effect: numeric("Smallest relevant difference", values.least_effect, { placeholder: 0.02 }),
  };
  const isOn = check("Enabled", values.enabled !== false);
  const isAa = check("A/A test: all variants are equal on purpose", values.aa_test);
  const variants = variantsOf(values.variants || [{ name: "now" }, { name: "new" }], rankers);
  const { id, name, mode, unit, share, starts, ends, goal, planned, least_effect: least } = fields;
  return {
    element: el("div", { class: "rule" }, line(id, name, isOn), line(mode, unit, share), line(starts, ends), line(goal, planned, least, isAa), variants.element),
    value: () => ({
      ...without(values, Object.keys(fields)), id: id.input.value.trim(), ...given(fields, ["share", "planned", "least_effect"]), enabled: isOn.input.checked, aa_test: isAa.input.checked, variants: variants.value(),
    }),
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
  const number = () => shown.forEach(({ legend, gone }, at) => {
    legend.replaceChildren(at ? `Variant ${at + 1}` : "Variant 1, the baseline");
    gone.setAttribute("aria-label", `Remove variant ${at + 1}`);
  });
  const add = (variant) => {
    const made = variantOf(variant, rankers, () => {
      shown.splice(shown.indexOf(made), 1);
      made.element.remove();
      number();
    });
    shown.push(made);
    list.append(made.element);
    number();
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
      if (at !== undefined) return shown[at]?.fields[name] || shown[at]?.whole;
      const there = shown.map(({ fields }) => fields[name]).filter(Boolean);
      return there.find(({ input }) => input.value) || there[0] || (name === "variants" ? more : undefined);
    },
  };
}

function variantOf({ name, weight, options = {}, ...others }, rankers, remove) {
  const names = [...new Set(["off", "default", ...rankers, ...(options.ranker ? [options.ranker] : [])])];
  const own = { name: field("Name", { value: name, required: true, maxlength: 16 }), weight: numeric("Weight", weight, { placeholder: 1 }) };
  const chosen = {
    stage: field("Stage", { value: options.stage || "" }, STAGES),
    merge: field("Merge method", { value: options.merge, placeholder: "unchanged" }),
    rules: field("Rules", { value: String(options.rules ?? "") }, RULES),
    ranker: field("Ranker", { value: options.ranker || "" }, [AS_IT_IS, ...names.map((each) => [each, each])]),
  };
  const legend = el("legend");
  const gone = button("Remove", remove);
  const fields = { ...own, ...chosen };
  const element = el("fieldset", { class: "action" }, legend, Object.values(fields).map((each) => each.element), gone);
  return {
    legend,
    gone,
    fields,
    element,
    whole: { element, input: chosen.stage.input },
    value() {
      const values = { ...without(options, Object.keys(chosen)), ...given(chosen, []) };
      if (values.rules) values.rules = values.rules === "true";
      return { ...others, name: own.name.input.value.trim(), ...given(own, ["weight"]), ...(Object.keys(values).length ? { options: values } : {}) };
    },
  };
}

function line(...parts) {
  return el("div", { class: "line" }, parts.map((part) => part.element || part));
}

function numeric(name, value, props) {
  return field(name, { type: "number", min: 0, step: "any", value, ...props });
}

/** The values of the fields that are not empty. */
function given(fields, numbers) {
  const values = Object.entries(fields).map(([name, part]) => [name, part.value ? part.value() : part.input.value.trim()]).filter(([, text]) => text);
  return Object.fromEntries(values.map(([name, text]) => [name, numbers.includes(name) ? Number(text) : text]));
}

/** An object without some of its names. */
function without(values, names) {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !names.includes(name)));
}
