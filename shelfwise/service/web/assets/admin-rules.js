// Merchandising rules: a list, an editor with preview, and the restoration of revisions.

import { call } from "./api.js";
import { button, check, counts, field, formOf, head, line, listPart, moment, momentField, opener, orJson, place, table, tryForm, valuesOf } from "./admin-ui.js";
import { goalsOf } from "./admin-analytics.js";
import { productPicker } from "./admin-product-picker.js";
import { el, fill } from "./dom.js";

const MATCHES = [["any", "any query"], ["exact", "equals"], ["contains", "contains these words"]];
const FIELDS = {
  products: { label: "Products" },
  position: { label: "Position", type: "number", step: 1, min: 1, placeholder: 1 },
  filters: { label: "Products that pass this filter", wide: true },
  strength: { label: "Strength", type: "number", step: "any", min: 0, placeholder: 1 },
  url: { label: "Address", wide: true },
  values: { label: "An object as JSON", wide: true },
  at_least: { label: "At least, 0 to 1", type: "number", step: "any", min: 0, max: 1 },
  at_most: { label: "Or at most", type: "number", step: "any", min: 0, max: 1 },
  type: { label: "Type", wide: true },
};
/** The name and the fields of each kind of action. */
const KINDS = {
  pin: ["Pin products", "products", "position"],
  boost: ["Move up", "filters", "strength"],
  bury: ["Move down", "filters", "strength"],
  hide: ["Hide", "products", "filters"],
  restrict: ["Show only", "filters"],
  redirect: ["Redirect", "url"],
  data: ["Data for the page", "values"],
  exposure: ["Share of attention", "filters", "at_least", "at_most"],
  classify: ["Set the type", "type", "products", "filters"],
};

export function rulesPart() {
  const edit = (rule) => {
    const form = orJson(rule, ruleForm, "The rule as JSON");
    const save = (changed) => call("/v1/rules", { method: "PUT", body: { documents: [changed] } });
    part.edit(rule.id ? `Rule ${rule.id}` : "New rule", form, save, "The rule is saved",
      tryForm("rules", () => [form.value()], ([changed] = [rule]) => changed.when?.query || ""));
  };
  const part = listPart(async ({ list, showPast }) => {
    const { documents, faults, details } = await call("/v1/rules");
    fill(list, documents.length ? table("Rules", [
      ["rule", ({ id, name }) => el("div", {}, el("b", { text: id }), name ? ` ${name}` : null, faults[id] ? el("p", { class: "faults", text: faults[id] }) : null)],
      ["when", whenOf],
      ["actions", ({ actions }) => actions.map(({ kind }) => kind).join(", ")],
      ...counts("priority"),
      ["", buttons],
    ], documents) : el("p", { text: "There are no rules yet." }), goalsOf(details.exposure_goals));
    await showPast("rules", [["rule", ({ id }) => id], ["", changeOf]], "All rules");
  });
  const buttons = (rule) => {
    const isOff = rule.enabled === false;
    const path = `/v1/rules/${encodeURIComponent(rule.id)}`;
    return el("div", { class: "buttons" }, opener("Edit", rule.id, () => edit(rule)),
      part.act(isOff ? "Switch on" : "Switch off", rule.id, [path, "PATCH", { enabled: isOff }], `${rule.id} is ${isOff ? "on" : "off"}`),
      part.act("Remove", rule.id, [path, "DELETE"], `${rule.id} was removed`, `Remove ${rule.id}? Its history is kept.`));
  };
  return [...head("Rules", "Rules apply as soon as they are saved. Try one on a search first."),
    el("div", { class: "buttons" }, button("New rule", () => edit({ id: "", when: {}, actions: [] }), "primary")), part.status, part.list, part.below, part.past];
}

/** The kind of a change in the history of documents. */
export function changeOf({ before, after }) {
  if (!before) return "added";
  return after ? "changed" : "removed";
}

function whenOf({ when = {}, enabled }) {
  const parts = [when.query ? `${when.match} “${when.query}”` : "any query", when.filters, when.contexts && `in ${when.contexts.join(" or ")}`, when.starts && `from ${moment(when.starts)}`, when.ends && `until ${moment(when.ends)}`];
  return (enabled === false ? "off; " : "") + parts.filter(Boolean).join("; ");
}

function ruleForm(rule) {
  const when = rule.when || {};
  const own = {
    id: field("Id", { value: rule.id, maxlength: 100, placeholder: "from the name or query", readonly: Boolean(rule.id) }),
    name: field("Name", { value: rule.name }),
    priority: field("Priority", { type: "number", step: 1, value: rule.priority ?? 0 }),
    enabled: check("Enabled", rule.enabled !== false),
  };
  const match = field("When the query", { value: when.match || "any" }, MATCHES);
  const conditions = {
    match,
    query: field("Query", { value: when.query, oninput: () => match.input.value === "any" && (match.input.value = "contains") }),
    filters: field("And the shopper's filter contains", { value: when.filters, placeholder: 'category = "Tools"' }),
    contexts: field("In one of the contexts", { list: ",", value: when.contexts, placeholder: "mobile, newsletter" }),
    starts: momentField("From", when.starts),
    ends: momentField("Until", when.ends),
  };
  const actions = [];
  const list = place();
  const add = (action) => {
    const part = actionForm(action, () => {
      actions.splice(actions.indexOf(part), 1);
      part.element.remove();
    });
    actions.push(part);
    list.append(part.element);
  };
  (rule.actions || []).forEach(add);
  const kind = field("Add an action", {}, Object.entries(KINDS).map(([value, [name]]) => [value, name]));
  const { query, filters, contexts, starts, ends } = conditions;
  return {
    ...formOf(own, [Object.keys(own)], [line(match, query, filters), line(contexts, starts, ends), list, line(kind, button("Add", () => add({ kind: kind.input.value })))]),
    value: () => ({ ...rule, id: "", name: undefined, priority: 0, ...valuesOf(own), when: valuesOf(conditions), actions: actions.map((each) => each.value()) }),
    faulty: () => null,
  };
}

function actionForm(action, remove) {
  const [name, ...keys] = KINDS[action.kind] || [action.kind];
  const fields = Object.fromEntries(keys.map((key) => {
    const { label, ...props } = FIELDS[key];
    const value = key === "values" ? JSON.stringify(action[key]) : action[key];
    return [key, key === "products" ? productPicker(label, value) : field(label, { value, ...props })];
  }));
  return {
    element: el("fieldset", { class: "action" }, el("legend", { text: name }), Object.values(fields).map(({ element }) => element), button("Remove", remove, "small", { "aria-label": `Remove: ${name}` })),
    value() {
      const { values, products, ...others } = valuesOf(fields);
      return { kind: action.kind, ...(products?.length && { products }), ...(values && { values: objectOf(values) }), ...others };
    },
  };
}

/** The object of a JSON text; the text itself if it is invalid, so that the server reports the field. */
function objectOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
