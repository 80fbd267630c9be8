// The form of a rule.

import { editor } from "./admin-editor.js";
import { productPicker } from "./admin-product-picker.js";
import { button, check, field, momentField, place } from "./admin-ui.js";
import { el } from "./dom.js";

const MATCHES = [["any", "any query"], ["exact", "equals"], ["contains", "contains these words"]];
const KINDS = {
  pin: { name: "Pin products", fields: { products: "Products", position: "Position" } },
  boost: { name: "Move up", fields: { filters: "Products that pass this filter", strength: "Strength" } },
  bury: { name: "Move down", fields: { filters: "Products that pass this filter", strength: "Strength" } },
  hide: { name: "Hide", fields: { products: "Products", filters: "Products that pass this filter" } },
  restrict: { name: "Show only", fields: { filters: "Products that pass this filter" } },
  redirect: { name: "Redirect", fields: { url: "Address" } },
  data: { name: "Data for the page", fields: { values: "An object as JSON" } },
  exposure: { name: "Share of attention", fields: { filters: "Products that pass this filter", at_least: "At least, 0 to 1", at_most: "Or at most" } },
  classify: { name: "Set the type", fields: { type: "Type", products: "Products", filters: "Products that pass this filter" } },
};
const NUMBERS = {
  position: { step: 1, min: 1, placeholder: 1 },
  strength: { step: "any", min: 0, placeholder: 1 },
  at_least: { step: "any", min: 0, max: 1 },
  at_most: { step: "any", min: 0, max: 1 },
};

/** An editor of a rule. */
export function ruleForm(given) {
  return editor(given, formOf, "The rule as JSON");
}

function formOf(rule) {
  const when = rule.when || {};
  const id = field("Id", { value: rule.id, maxlength: 100, placeholder: "from the name or query", readonly: Boolean(rule.id) });
  const name = field("Name", { value: rule.name });
  const priority = field("Priority", { type: "number", step: 1, value: rule.priority ?? 0 });
  const isOn = check("Enabled", rule.enabled !== false);
  const match = field("When the query", { value: when.match || "any" }, MATCHES);
  const query = field("Query", { value: when.query, oninput: () => match.input.value === "any" && (match.input.value = "contains") });
  const filters = field("And the shopper's filter contains", { value: when.filters, placeholder: 'category = "Tools"' });
  const contexts = field("In one of the contexts", { value: (when.contexts || []).join(", "), placeholder: "mobile, newsletter" });
  const starts = momentField("From", when.starts);
  const ends = momentField("Until", when.ends);
  const actions = [];
  const list = place();
  const add = (action) => {
    const made = actionOf(action, () => {
      actions.splice(actions.indexOf(made), 1);
      made.element.remove();
    });
    actions.push(made);
    list.append(made.element);
  };
  (rule.actions || []).forEach(add);
  const kind = field("Add an action", {}, Object.entries(KINDS).map(([value, { name: text }]) => [value, text]));
  const line = (...parts) => el("div", { class: "line" }, parts.map((part) => part.element || part));
  const element = el("div", { class: "rule" }, line(id, name, priority, isOn), line(match, query, filters), line(contexts, starts, ends), list,
    line(kind, button("Add", () => add({ kind: kind.input.value }))));
  return {
    element,
    value() {
      const conditions = { match: match.input.value, ...filled({ query, filters }), starts: starts.value(), ends: ends.value() };
      const named = contexts.input.value.split(",").map((each) => each.trim()).filter(Boolean);
      if (named.length) conditions.contexts = named;
      return {
        ...rule, id: id.input.value.trim(), ...filled({ name }), priority: Math.round(priority.input.valueAsNumber) || 0,
        enabled: isOn.input.checked, when: conditions, actions: actions.map((action) => action.value()),
      };
    },
  };
}

function filled(fields) {
  const entries = Object.entries(fields).map(([name, { input }]) => [name, input.value.trim()]);
  return Object.fromEntries(entries.filter(([, value]) => value));
}

function actionOf(action, remove) {
  const { name, fields } = KINDS[action.kind] || { name: action.kind, fields: {} };
  const inputs = Object.entries(fields).map(([key, label]) => {
    if (key === "products") return [key, productPicker(label, action.products)];
    const value = key === "values" ? JSON.stringify(action[key]) : action[key];
    return [key, field(label, { value, wide: !NUMBERS[key], ...(NUMBERS[key] && { type: "number", ...NUMBERS[key] }) })];
  });
  return {
    element: el("fieldset", { class: "action" }, el("legend", { text: name }), inputs.map(([, { element }]) => element), button("Remove", remove, "small", { "aria-label": `Remove: ${name}` })),
    value() {
      const made = { kind: action.kind };
      for (const [key, part] of inputs) {
        const text = key === "products" ? part.value() : part.input.value.trim();
        if (!text.length) continue;
        if (NUMBERS[key]) made[key] = Number(text);
        else if (key === "values") made[key] = objectOf(text);
        else made[key] = text;
      }
      return made;
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
