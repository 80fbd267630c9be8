// Shared elements of the admin page.

import { announce } from "./announce.js";
import { call } from "./api.js";
import { el, fill } from "./dom.js";

const SLOW_MS = 300;
const FEW = 8;
let numbered = 0;

/** A heading, with a hint below it. */
export function head(title, hint) {
  return [el("h1", { id: "view-title", tabindex: "-1", text: title }), hint ? el("p", { class: "hint", text: hint }) : null];
}

/**
 * A labelled field; `props` are attributes of the input, `area` makes it a textarea, `options` a select element, and `list`
 * (a comma or a line feed) a list of texts. `value()` is undefined if it is empty and not required.
 */
export function field(name, props = {}, options = null) {
  const { wide, area, list, ...others } = props;
  const id = `field-${(numbered += 1)}`;
  const input = options
    ? el("select", { id, ...others }, options.map(([value, text]) => el("option", { value, text })))
    : el(area ? "textarea" : "input", { id, autocomplete: "off", ...others });
  if (list) input.value = (others.value || []).join(list === "," ? ", " : list);
  else if ((options || area) && others.value !== undefined) input.value = others.value;
  const value = () => {
    const text = input.value.trim();
    if (list) return text.split(list === "," ? /[,，]/ : list).map((each) => each.trim()).filter(Boolean);
    if (!text) return others.required ? "" : undefined;
    return others.type === "number" ? Number(text) : text;
  };
  return { input, value, element: el("div", { class: wide ? "field wide" : "field" }, el("label", { for: id, text: name }), input) };
}

/** A labelled date and time in the browser's zone; `value()` is an ISO 8601 text with zone, or undefined. */
export function momentField(name, text) {
  const local = (moment) => new Date(moment - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  const began = text ? local(new Date(text)) : "";
  const part = field(name, { type: "datetime-local", value: began });
  // An unchanged value keeps its seconds and its zone.
  const value = () => (part.input.value === began ? text : part.input.value && new Date(part.input.value).toISOString()) || undefined;
  return { ...part, value };
}

/** Shows the error of a field, or removes it if the text is empty. */
function showFault({ input, element }, text) {
  const id = `${input.id}-fault`;
  element.querySelector(`#${id}`)?.remove();
  for (const [name, value] of [["aria-invalid", "true"], ["aria-describedby", id]]) {
    if (text) input.setAttribute(name, value);
    else input.removeAttribute(name);
  }
  if (text) element.append(el("p", { id, class: "faults", role: "alert", text }));
}

export function check(name, isOn) {
  const input = el("input", { type: "checkbox", checked: isOn });
  return { input, value: () => input.checked, element: el("label", { class: "check" }, input, name) };
}

export function button(text, onclick, kind = "small", props = {}) {
  return el("button", { type: "button", class: kind, text, onclick, ...props });
}

/** A button that switches a part of the service on or off, for all visitors and durably. */
export function switchButton(part, on, text, status, refresh) {
  return button(text, () => attempt(status, async () => {
    await call(`/v1/switches/${part}`, { method: "PUT", body: { on } });
    await refresh();
  }), on ? "primary" : "small");
}

/** A table; columns are [name, of(row), isNumber], where `of` returns a text or an element. */
export function table(caption, columns, rows) {
  const first = el("tr", {}, columns.map(([name, , isNumber]) => el(name ? "th" : "td", { scope: name ? "col" : undefined, class: isNumber && "number", text: name })));
  const body = rows.map((row) => el("tr", {}, columns.map(([, of, isNumber]) => el("td", { class: isNumber && "number" }, of(row) ?? ""))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "sr", text: caption }), el("thead", {}, first), el("tbody", {}, body)));
}

export function figures(pairs) {
  return el("div", { class: "tiles" }, pairs.map(([name, value]) => el("div", { class: "figure" }, el("span", { text: name }), el("b", { text: value }))));
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

/** Runs `work`, and shows an error in `place`. */
export async function attempt(place, work) {
  fill(place);
  const late = setTimeout(() => fill(place, el("p", { class: "hint", role: "status", text: "One moment …" })), SLOW_MS);
  const over = () => {
    clearTimeout(late);
    place.querySelector("[role=status].hint")?.remove();
  };
  try {
    const done = await work();
    over();
    return done;
  } catch (error) {
    over();
    const message = error.field && !error.message.includes(error.field) ? `${error.field}: ${error.message}` : error.message;
    fill(place, el("p", { class: "notice faults", role: "alert", text: message }));
    return undefined;
  }
}

/** An empty element to be filled later. */
export function place() {
  return el("div");
}

/** A line of fields and elements. */
export function line(...parts) {
  return el("div", { class: "line" }, parts.map((part) => part.element || part));
}

/** A notice above what it concerns. */
export function notice(text) {
  return el("p", { class: "notice", text });
}

/** A form in one line that does `work`, and shows an error in `status`. */
export function lineForm(status, work, text, parts, { kind = "primary", ...props } = {}) {
  const onsubmit = (event) => {
    event.preventDefault();
    return attempt(status, work);
  };
  return el("form", { class: "line", onsubmit, ...props }, parts.map((part) => part.element || part), el("button", { class: kind, text }));
}

/** The first rows of a table; the others are shown on request. */
export function shortTable(title, columns, rows) {
  if (!rows.length) return el("p", { text: "None." });
  const shown = el("div", {}, table(title, columns, rows.slice(0, FEW)));
  const more = button(`Show all ${rows.length}`, () => fill(shown, table(title, columns, rows)), "quiet", { "aria-label": `Show all ${rows.length} of ${title}` });
  if (rows.length > FEW) shown.append(more);
  return shown;
}

/** Columns of counts: names of the rows' fields, or pairs of a title and such a name. */
export function counts(...names) {
  return names.map((each) => (Array.isArray(each) ? each : [each, each])).map(([title, name]) => [title, (row) => number(row[name]), true]);
}

/** The state of a thing as a tag; `classes` are those of some states. */
export function tag(text, classes = {}) {
  return el("span", { class: `tag ${classes[text] || ""}`.trim(), text });
}

/** The values of named fields that are not empty. */
export function valuesOf(fields) {
  return Object.fromEntries(Object.entries(fields).map(([name, part]) => [name, part.value()]).filter(([, value]) => value !== undefined));
}

/** Named fields, shown in lines of their names. */
export function formOf(fields, lines, ...others) {
  return {
    element: el("div", { class: "rule" }, lines.map((names) => line(...names.map((name) => fields[name]))), others),
    value: () => valuesOf(fields),
    faulty: (error) => fields[error.field?.split(".").at(-1)],
  };
}

/**
 * A section with a form that sends its value; an error is shown at the field that the form's `faulty` finds. `others` are
 * elements above the buttons.
 */
export function editor({ title, label = "Editor", form, send, save = "Save", close, others = [] }) {
  const status = place();
  const id = `form-${(numbered += 1)}`;
  let shown = null;
  const onsubmit = (event) => {
    event.preventDefault();
    if (shown) showFault(shown, "");
    return attempt(status, async () => {
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
    });
  };
  return el("section", { "aria-label": label }, el("h2", { tabindex: "-1", text: title }),
    el("form", { id, class: "rule", onsubmit, novalidate: true }, form.element, status), others,
    el("div", { class: "buttons" }, el("button", { class: "primary", form: id, text: save }), close && button("Close", close, "primary plain")));
}

/** The form of a document, or its JSON for what `formOf(values)` lacks. */
export function orJson(values, formOf, label) {
  const element = el("div", { class: "rule" });
  let current = null;
  const asForm = (now) => {
    current = formOf(now);
    fill(element, current.element, el("div", { class: "buttons" }, button("As JSON", () => asJson(current.value()), "quiet")));
  };
  const asJson = (now) => {
    const area = { ...field(label, { area: true, spellcheck: "false", value: JSON.stringify(now, null, 2) }), isJson: true };
    current = { value: () => JSON.parse(area.input.value), faulty: () => area };
    const back = () => {
      try {
        asForm(current.value());
      } catch (error) {
        showFault(area, error.message);
      }
    };
    fill(element, area.element, el("div", { class: "buttons" }, button("As a form", back, "quiet")));
  };
  asForm(values);
  return { element, value: () => current.value(), faulty: (error) => current.faulty(error) };
}

/** A part with a list, which `load(part)` fills, an editor below it, and the history of its documents. */
export function listPart(load) {
  const part = {
    ...Object.fromEntries(["status", "list", "below", "past"].map((name) => [name, place()])),
    load: () => load(part),
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
      opener(verb, name, () => (!ask || sure(ask)) && part.change(path, { method, body }, text)),
    /** Shows the editor of a document; `save(value)` sends it. */
    edit(title, form, save, text, others) {
      const send = async (value) => {
        await save(value);
        await part.done(text);
      };
      part.show(editor({ title, form, send, close: part.close, others }));
    },
    /** Shows the last changes of a kind of documents, newest first, each with a button to restore its revision. */
    async showPast(kind, columns, what) {
      const { changes } = await call(`/v1/${kind}/history?limit=20`);
      const restore = ({ revision }) => part.act("Restore", `revision ${revision}`, [`/v1/${kind}/restore`, "POST", { revision }],
        `${what} of revision ${revision} are restored`, `Restore ${what.toLowerCase()} of revision ${revision}?`);
      fill(part.past, changes.length ? el("section", {}, el("h2", { text: "History" }), table("History", [
        ["revision", ({ revision }) => number(revision), true], ["when", ({ time }) => moment(time)], ["by", ({ who }) => who], ...columns, ["", restore],
      ], changes)) : null);
    },
  };
  part.refresh();
  return part;
}

/** A button in the row of `name`, with a label that contains it. */
export function opener(verb, name, work, between = " ") {
  return button(verb, work, "small", { "aria-label": `${verb}${between}${name}` });
}

/** Asks for confirmation of a change. */
export function sure(question) {
  return window.confirm(question);
}

/** The effect of a change on a result page. */
function previewOf(found) {
  const rows = [...found.gained, ...found.moved, ...found.lost];
  const text = `${number(found.total_before)} products before, ${number(found.total_after)} after.`;
  if (!rows.length) return el("p", { role: "status", text: `The first 20 hits do not change. ${text}` });
  return [el("p", { role: "status", text }), table("What would change", [
    ["product", ({ title, product }) => title || product],
    ["type", ({ product_type: type }) => type],
    ...counts(["place before", "before"], ["place after", "after"]),
    ...(rows.some(({ rule }) => rule) ? [["by rule", ({ rule }) => rule]] : []),
  ], rows)];
}

/** A form that tries `changed()`, a change of a kind of documents, on a query; `query` is the first one. */
export function tryForm(kind, changed, queryOf = () => "") {
  const [status, preview] = [place(), place()];
  const query = field("Try it on", { value: queryOf(), placeholder: "a query", wide: true });
  const work = async () => {
    const put = changed();
    query.input.value ||= queryOf(put);
    fill(preview, previewOf(await call(`/v1/${kind}/preview`, { method: "POST", body: { q: query.input.value, put, size: 20 } })));
  };
  return [status, lineForm(status, work, "What would this change?", [query], { kind: "small" }), preview];
}
