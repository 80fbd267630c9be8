// Shared elements of the admin page: fields, forms of objects from declarations, tables and panels.

import { call, productPath } from "./api.js";
import { announce, el, fill, keepFocus } from "./dom.js";

const OFFERED = 6;
const PAUSE_MS = 200;
let numbered = 0;

/** A heading, with a hint below it. */
export function head(title, hint) {
  return [el("h1", { id: "view-title", tabindex: "-1", text: title }), hint ? el("p", { class: "hint", text: hint }) : null];
}

const split = (text, separator) => text.split(separator).map((each) => each.trim()).filter(Boolean);
const localTime = (moment) => new Date(moment - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

/** Names with their weights, as in "colour: 3, material: 0". */
export function pairsText(weights) {
  return Object.entries(weights).map(([name, weight]) => `${name}: ${weight}`).sort().join(", ");
}

/** The text of a value in a field, and the value of such a text, by the kind of the field. A text that is no value is passed on,
 * so that the server reports it. */
const CONVERSIONS = {
  number: [String, (text) => (text && !Number.isNaN(Number(text)) ? Number(text) : text)],
  "datetime-local": [(text) => localTime(new Date(text)), (text) => new Date(text).toISOString()],
  list: [(values) => values.join(", "), (text) => split(text, /[,，]/)],
  lines: [(values) => values.join("\n"), (text) => split(text, "\n")],
  pairs: [pairsText, (text) => Object.fromEntries(split(text, /[,，]/).map((each) => {
    const [name, weight = ""] = split(each, /[:：]/);
    return [name, weight && CONVERSIONS.number[1](weight)];
  }))],
  json: [(value) => (typeof value === "string" ? value : JSON.stringify(value)), (text) => {
    try {
      return text ? JSON.parse(text) : undefined;
    } catch {
      return text;
    }
  }],
};

/**
 * A labelled field; `props` are attributes of the input. `as` is its kind of value, by default its type; `area` makes it a
 * textarea, `options` ([value, text]) a select element. `value()` is undefined if it is empty and not required; an unchanged value is
 * returned as it was.
 */
export function field(name, { wide, area, as, options, value, ...props } = {}) {
  if (props.type === "checkbox") {
    const box = el("input", { type: "checkbox", checked: value });
    return { input: box, value: () => box.checked, element: el("label", { class: "check" }, box, name) };
  }
  const id = `field-${(numbered += 1)}`;
  if (options && value !== undefined && !options.some(([each]) => each === value)) options = [...options, [value, value]];
  const input = options
    ? el("select", { id, ...props }, options.map(([each, text]) => el("option", { value: String(each ?? ""), selected: each === value, text })))
    : el(area ? "textarea" : "input", { id, autocomplete: "off", ...props });
  const [write, read] = CONVERSIONS[as || props.type] || [String, (text) => text];
  const before = value === undefined || value === null ? "" : write(value);
  if (!options && before) input.value = before;
  const valueOf = () => {
    if (options) return options[input.selectedIndex][0];
    const text = input.value.trim();
    if (before && input.value === before) return value;
    return text || props.required || as ? read(text) : undefined;
  };
  return { input, value: valueOf, element: el("div", { class: wide ? "field wide" : "field" }, el("label", { for: id, text: name }), input) };
}

/** Shows the error of a field, or removes it if the text is empty. */
function showFault({ input, element }, text) {
  const id = `${input.id}-fault`;
  element.querySelector(`#${id}`)?.remove();
  input.ariaInvalid = text ? "true" : null;
  input.setAttribute("aria-describedby", text ? id : "");
  if (text) element.append(el("p", { id, class: "faults", role: "alert", text }));
}

export function button(text, onclick, kind = "small", props = {}) {
  return el("button", { type: "button", class: kind, text, onclick, ...props });
}

/** A table; columns are [title, of(row), isNumber], where `of` returns a text or an element, or names of fields of the rows, with a title
 * or without. Without rows, the text `empty`. */
export function table(caption, columns, rows, empty = "") {
  if (!rows.length) return empty && el("p", { text: empty });
  const all = columns.map((column) => {
    const [title, of = title, isNumber] = [column].flat();
    if (typeof of === "function") return [title, of, isNumber];
    const hasNumbers = rows.some((row) => typeof row[of] === "number");
    return [title, (row) => (hasNumbers ? number(row[of]) : row[of]), hasNumbers];
  });
  const first = el("tr", {}, all.map(([title, , isNumber]) => el(title ? "th" : "td", { scope: title ? "col" : undefined, class: isNumber && "number", text: title })));
  const body = rows.map((row) => el("tr", {}, all.map(([, of, isNumber]) => el("td", { class: isNumber && "number" }, of(row) ?? ""))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "sr", text: caption }), el("thead", {}, first), el("tbody", {}, body)));
}

/** Figures, [name, value, note], with or without notes. */
export function figures(all) {
  return el("div", { class: "tiles" }, all.map(([name, value, note]) => el("div", { class: "figure" }, el("span", { text: name }), el("b", { text: value }), note && el("span", { text: note }))));
}

export function number(value, digits = 0) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });
}

export function percent(value) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)}%`;
}

export function moment(text) {
  return text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "";
}

/** Runs `work`, and shows an error in `place`. A refused key reloads the page, which asks for another one. */
export async function attempt(place, work) {
  fill(place);
  place.ariaBusy = "true";
  try {
    return await work();
  } catch (error) {
    if (error.status === 401) location.reload();
    const message = error.field && !error.message.includes(error.field) ? `${error.field}: ${error.message}` : error.message;
    fill(place, el("p", { class: "notice faults", role: "alert", text: message }));
    return undefined;
  } finally {
    place.ariaBusy = null;
  }
}

/** A notice above what it concerns. */
export function notice(text) {
  return el("p", { class: "notice", text });
}

/** A form in one line that does `work`, and shows an error in `status`. */
export function lineForm(status, work, text, parts, { kind = "primary", ...props } = {}) {
  return el("form", { class: "line", method: "dialog", onsubmit: () => attempt(status, work), ...props }, parts, el("button", { class: kind, text }));
}

/** The state of a thing as a tag; `classes` are those of some states. */
export function tag(text, classes = {}) {
  return el("span", { class: `tag ${classes[text] || ""}`.trim(), text });
}

/**
 * A section with a form that sends its value; an error is shown at the field that the form's `faulty` finds. `others` are
 * elements above the buttons.
 */
export function editor({ title, label = "Editor", form, send, save = "Save", close, others = [] }) {
  const status = el("div");
  const id = `form-${(numbered += 1)}`;
  let shown = null;
  const work = async () => {
    if (shown) showFault(shown, "");
    try {
      await send(form.value());
    } catch (error) {
      shown = form.faulty(error);
      if (!shown) throw error;
      // The name of the field is removed from the message.
      const from = shown.isJson ? -1 : error.message.indexOf(`${error.field}: `);
      showFault(shown, from < 0 ? error.message : error.message.slice(from + error.field.length + 2));
      shown.input.focus();
    }
  };
  return el("section", { "aria-label": label }, el("h2", { tabindex: "-1", text: title }),
    el("form", { id, class: "rule", method: "dialog", onsubmit: () => attempt(status, work), novalidate: true }, form, status), others,
    el("div", { class: "buttons" }, el("button", { class: "primary", form: id, text: save }), close && button("Close", close, "primary plain")));
}

/**
 * A part with a title and a list, which `load(part)` returns, a section below it, which is opened from a row, and the history of its
 * documents. `above(part)` are elements above the list.
 */
export function listPart({ title, hint, load, above = () => [] }) {
  const part = {
    ...Object.fromEntries(["status", "list", "below", "past"].map((name) => [name, el("div")])),
    load: async () => fill(part.list, await load(part)),
    refresh: () => attempt(part.status, part.load),
    close: () => fill(part.below),
    show(section) {
      fill(part.below, section);
      section.querySelector("h2").focus();
    },
    async done(text) {
      announce(text);
      part.close();
      await part.load();
    },
    /** Sends a request, announces `text` and loads the list again. */
    change: (path, request, text) => attempt(part.status, async () => {
      await call(path, request);
      announce(text);
      await part.load();
    }),
    /** A button about `name` that sends a request, after the question `ask` if there is one. */
    act: (verb, name, [path, method, body], text, ask) =>
      opener(verb, name, () => (!ask || confirm(ask)) && part.change(path, { method, body }, text)),
    /** A button that switches a part of the service on or off, for all visitors and durably. */
    switchTo: (name, on, text) => button(text, () => part.change(`/v1/switches/${name}`, { method: "PUT", body: { on } }, on ? "It is on" : "It is off"), on ? "primary" : "small"),
  };
  part.refresh();
  return [...head(title, hint), above(part), part.status, part.list, part.below, part.past];
}

/** A button in the row of `name`, with a label that contains it. */
export function opener(verb, name, work, between = " ") {
  return button(verb, work, "small", { "aria-label": `${verb}${between}${name}` });
}

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
    return [props.title && el("h2", { text: props.title }), props.hint && el("p", { class: "hint", text: props.hint }), fields[name]];
  };
  const isNested = ([, , props = {}]) => props.lines || props.each || props.kinds;
  const shown = lines.map((each) => (each.some(isNested) ? each.map(elementOf) : el("div", { class: "line" }, each.map(elementOf))));
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
function checks(label, options, values = []) {
  const boxes = options.map(([value, text]) => [value, field(text, { type: "checkbox", value: values.includes(value) })]);
  return {
    input: boxes[0]?.[1].input,
    element: el("fieldset", { class: "action scopes" }, el("legend", { text: label }), boxes.map(([, box]) => box)),
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
    keepFocus(list, () => fill(list, chosen.map((id, at) => {
      const title = titles.get(id) || id;
      const others = chosen.toSpliced(at, 1);
      return el("li", {}, el("span", { class: "named", text: titles.has(id) ? `${title} (${id})` : id }),
        button("↑", () => show(others.toSpliced(at - 1, 0, id)), "small", { "aria-label": `Up: ${title}`, "data-key": id, disabled: !at }),
        button("Remove", () => show(others), "small", { "aria-label": `Remove: ${title}` }));
    })), input);
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
    const hits = q && (await call("/v1/search", { query: { q, size: OFFERED, prefix: true } })).hits;
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
  const list = el("div");
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
    fill(list, parts);
  };
  const kind = kinds && field(label, { options: Object.entries(kinds).map(([id, [title]]) => [id, title]) });
  const add = button(kinds ? "Add" : label, () => {
    show([...value(), kinds ? { kind: kind.value() } : start]);
    parts.at(-1).first()?.input.focus();
  });
  show(values);
  const element = el("div", { class: "rule" }, list, el("div", { class: "line" }, kind, add));
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
    fill(element, current, el("div", { class: "buttons" }, button(isJson ? "As a form" : "As JSON", toggle, "quiet")));
  };
  show(values, false);
  return { element, value: () => current.value(), faulty: (error) => current.faulty(error) };
}
