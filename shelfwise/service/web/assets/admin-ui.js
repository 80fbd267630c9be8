// Shared elements of the admin page.

import { announce } from "./announce.js";
import { call } from "./api.js";
import { el, fill } from "./dom.js";

const SLOW_MS = 300;
let numbered = 0;

/** A heading, with a hint below it. */
export function head(title, hint) {
  return [el("h1", { id: "view-title", tabindex: "-1", text: title }), hint ? el("p", { class: "hint", text: hint }) : null];
}

/** A labelled field; `props` are attributes of the input, `options` make it a select element. */
export function field(name, props = {}, options = null) {
  const { wide, area, ...given } = props;
  const id = `field-${(numbered += 1)}`;
  const input = options
    ? el("select", { id, ...given }, options.map(([value, text]) => el("option", { value, text })))
    : el(area ? "textarea" : "input", { id, autocomplete: "off", ...given });
  if (options && given.value !== undefined) input.value = given.value;
  if (area && given.value !== undefined) input.value = given.value;
  return { input, element: el("div", { class: wide ? "field wide" : "field" }, el("label", { for: id, text: name }), input) };
}

/** A labelled date and time in the browser's zone; `value()` is an ISO 8601 text with zone, or undefined. */
export function momentField(name, text) {
  const local = (moment) => new Date(moment - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  const began = text ? local(new Date(text)) : "";
  const made = field(name, { type: "datetime-local", value: began });
  // An unchanged value keeps its seconds and its zone.
  made.value = () => (made.input.value === began ? text : made.input.value && new Date(made.input.value).toISOString()) || undefined;
  return made;
}

/** Shows the error of a field, or removes it if the text is empty. */
export function showFault({ input, element }, text) {
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
  return { input, element: el("label", { class: "check" }, input, name) };
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

/** The frame of a part with a list: places for messages, the list and an editor below it, and functions that fill them;
 * `refresh` reloads the list. */
export function listPart(refresh) {
  const [status, list, below] = [place(), place(), place()];
  return {
    status, list, below,
    close: () => fill(below),
    show(section) {
      fill(below, section);
      section.querySelector("h2").focus();
    },
    async done(text) {
      announce(text);
      await refresh();
    },
  };
}

/** An empty element to be filled later. */
export function place() {
  return el("div");
}

/** Asks for confirmation of a change. */
export function sure(question) {
  return window.confirm(question);
}

/** A table of changes, newest first, with `columns` and a button that asks `question(revision)` before `restore(revision)`. */
export function historyOf(changes, columns, question, restore) {
  return el("section", {}, el("h2", { text: "History" }), table("History", [
    ["revision", ({ revision }) => number(revision), true],
    ["when", ({ time }) => moment(time)],
    ["by", ({ who }) => who],
    ...columns,
    ["", ({ revision }) => button("Restore", () => sure(question(revision)) && restore(revision), "small", { "aria-label": `Restore revision ${revision}` })],
  ], changes));
}
