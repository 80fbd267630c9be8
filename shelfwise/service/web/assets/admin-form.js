// Forms of objects from declarations.

import { withParameters } from "./address.js";
import { call, productPath } from "./api.js";
import { button, check, field, line, place, showFault } from "./admin-ui.js";
import { el, fill, keepFocus } from "./dom.js";

const OFFERED = 6;
const PAUSE_MS = 200;

/**
 * A form of an object. Each of `lines` is a list of fields, [name, label, props]: `props` are those of `field`, with `value` as the
 * default; `as: "products"` is a picker; `lines` are those of a nested object; `each` or `kinds` those of the objects of a list.
 * `value()` keeps what the form lacks; `faulty(error)` is the field that an error names.
 */
export function form(lines, values = {}) {
  const fields = {};
  const elementOf = ([name, label, { value, ...props } = {}]) => {
    const now = values[name] ?? value;
    if (props.lines) fields[name] = form(props.lines, now);
    else if (props.each || props.kinds) fields[name] = listForm(name, label, props, now);
    else if (props.as === "products") fields[name] = productPicker(label, now);
    else if (props.as === "checks") fields[name] = checks(label, props.options, now);
    else fields[name] = field(label, { ...props, value: now, readonly: name === "id" && Boolean(now) });
    return [props.title && el("h2", { text: props.title }), props.hint && el("p", { class: "hint", text: props.hint }), fields[name].element];
  };
  const isNested = ([, , props = {}]) => props.lines || props.each || props.kinds;
  const shown = lines.map((each) => (each.some(isNested) ? each.map(elementOf) : line(...each.flatMap(elementOf).filter(Boolean))));
  return {
    element: el("div", { class: "rule" }, shown),
    value() {
      const own = Object.entries(fields).map(([name, part]) => [name, part.value()]);
      const filled = own.filter(([name, value]) => value !== undefined && !(fields[name].faulty && JSON.stringify(value) === "{}"));
      const others = Object.entries(values).filter(([name]) => !(name in fields));
      return Object.fromEntries([...others, ...filled]);
    },
    faulty(error) {
      const parts = Object.values(fields);
      const inList = parts.filter((part) => part.isList).map((part) => part.faulty(error)).find(Boolean);
      return inList || (fields[error.field]?.input && fields[error.field]) || parts.map((part) => part.faulty?.(error)).find(Boolean);
    },
    first: () => Object.values(fields).find(({ input }) => input),
  };
}

/** Checkboxes for the values of a list, by [value, text]. */
export function checks(label, options, values = []) {
  const boxes = options.map(([value, text]) => [value, check(text, values.includes(value))]);
  return {
    input: boxes[0]?.[1].input,
    element: el("fieldset", { class: "action scopes" }, el("legend", { text: label }), boxes.map(([, { element }]) => element)),
    value: () => boxes.filter(([, box]) => box.value()).map(([value]) => value),
  };
}

/** An ordered list of products, which are added by a search for titles or by their ids; `value()` returns the ids. */
function productPicker(label, ids = []) {
  const titles = new Map();
  const list = el("ol", { class: "chosen", "aria-label": label });
  const offers = el("ul", { class: "offers", "aria-label": "Products found" });
  const { input, element } = field(label, { placeholder: "Title, words or id", type: "search", wide: true });
  let chosen = ids;
  let waiting = 0;
  const show = (now) => {
    chosen = now;
    const hadFocus = list.contains(document.activeElement);
    keepFocus(list, () => fill(list, chosen.map((id, at) => {
      const title = titles.get(id) || id;
      const others = chosen.toSpliced(at, 1);
      return el("li", {}, el("span", { class: "named", text: titles.has(id) ? `${title} (${id})` : id }),
        button("↑", () => show(others.toSpliced(at - 1, 0, id)), "small", { "aria-label": `Up: ${title}`, "data-key": id, disabled: !at }),
        button("Remove", () => show(others), "small", { "aria-label": `Remove: ${title}` }));
    })));
    if (hadFocus && !list.contains(document.activeElement)) input.focus();
  };
  const learn = (id) => call(productPath(id)).then(({ product }) => titles.set(id, product.title) && show(chosen), () => {});
  const take = (id) => {
    input.value = "";
    fill(offers);
    show([...new Set([...chosen, id])]);
    learn(id);
    input.focus();
  };
  const offer = async () => {
    const q = input.value.trim();
    const hits = q && (await call(withParameters("/v1/search", { q, size: OFFERED, prefix: true }))).hits;
    if (input.value.trim() !== q) return;
    const found = q && hits.filter(({ product }) => !chosen.includes(product.id)).map(({ product: { id, title } }) => el("li", {}, button(`${title} (${id})`, () => take(id), "quiet")));
    fill(offers, found?.length === 0 ? el("li", { class: "hint", text: "No other product is found; press Enter to use the typed text as an id." }) : found);
  };
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => offer().catch(() => fill(offers)), PAUSE_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (input.value.trim()) take(input.value.trim());
  });
  show(ids);
  ids.forEach(learn);
  return { element: el("div", { class: "picker" }, list, element, offers), input, value: () => chosen };
}

/** A form of a list of objects: all with the lines `each`, or with those of their kind, {kind: [name, lines]}. */
function listForm(name, label, { each, kinds, one, start = {} }, values = []) {
  const list = place();
  let parts = [];
  const value = () => parts.map((part) => part.value());
  const show = (all) => {
    parts = all.map((item, at) => {
      const [title, lines] = kinds ? kinds[item.kind] || [item.kind, []] : [`${one} ${at + 1}`, each];
      const part = form(lines, item);
      const remove = () => show(value().toSpliced(at, 1));
      part.element = el("fieldset", { class: "action" }, el("legend", { text: title }), part.element, button("Remove", remove, "small", { "aria-label": `Remove: ${title}` }));
      return part;
    });
    fill(list, parts.map(({ element }) => element));
  };
  const kind = kinds && field(label, { options: Object.entries(kinds).map(([id, [title]]) => [id, title]) });
  const add = button(kinds ? "Add" : label, () => {
    show([...value(), kinds ? { kind: kind.value() } : start]);
    parts.at(-1).first()?.input.focus();
  });
  show(values);
  const element = el("div", { class: "rule" }, list, line(...[kind, add].filter(Boolean)));
  return {
    isList: true,
    element,
    value,
    /** The field that an error names in an item, such as in "variants[1]: ..."; for an error of the whole list, the one that adds an item. */
    faulty(error) {
      const at = new RegExp(`${name}\\[(\\d+)\\]`).exec(error.message)?.[1];
      if (parts[at]) return parts[at].faulty(error) || parts[at].first();
      return error.field === name ? { element, input: kind?.input || add } : undefined;
    },
  };
}

/** A form of an object by its lines, or its JSON. */
export function formOrJson(lines, values, label) {
  const element = el("div", { class: "rule" });
  let current = null;
  const show = (now, isJson) => {
    const area = isJson && { ...field(label, { area: true, spellcheck: "false", value: JSON.stringify(now, null, 2) }), isJson };
    const toggle = () => {
      try {
        show(current.value(), !isJson);
      } catch (error) {
        showFault(area, error.message);
      }
    };
    current = isJson ? { element: area.element, value: () => JSON.parse(area.input.value), faulty: () => area } : form(lines, now);
    fill(element, current.element, el("div", { class: "buttons" }, button(isJson ? "As a form" : "As JSON", toggle, "quiet")));
  };
  show(values, false);
  return { element, value: () => current.value(), faulty: (error) => current.faulty(error) };
}
