// Elements created without markup (product texts are inserted as text, never as HTML), and announcements.

const DRAWN = new Set(["svg", "path", "line", "text"]);
const SHOWN_MS = 2600;
let timer = 0;

/** An element: `props` are attributes, `on…` listeners, `class`, `text` and `hue`; children are elements, texts, or
 * objects with an `element`. */
export function el(tag, props = {}, ...children) {
  const made = DRAWN.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = String(value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) made.style.setProperty(name, String(value));
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...nodesOf(children));
  return made;
}

/** Replaces the children of an element. */
export function fill(parent, ...children) {
  parent.replaceChildren(...nodesOf(children));
}

function nodesOf(children) {
  return children.flat(Infinity).filter(Boolean).map((each) => each.element ?? each);
}

/** Rebuilds parts of an element by `make`, and restores the focus by the key of the focused element; if that is gone, on `otherwise`. */
export function keepFocus(element, make, otherwise) {
  const focused = document.activeElement;
  const hadFocus = element.contains(focused);
  make();
  if (hadFocus && !element.contains(focused)) (element.querySelector(`[data-key="${CSS.escape(focused.dataset.key)}"]`) ?? otherwise)?.focus();
}

/** The address of a picture if it may be loaded (https, this server, inline data), else an empty text. The scheme http
 * is replaced by https. */
export function pictureUrl(text) {
  if (/^data:image\/(png|jpeg|gif|webp|avif)[;,]/i.test(text)) return text;
  return webUrl(text, ["https:"]) || webUrl(text.replace(/^http:/i, "https:"), ["https:"]);
}

/** The address if a link may lead to it (this server, or one of the schemes), else an empty text. */
export function webUrl(text, schemes = ["https:", "http:"]) {
  const url = URL.parse(text, location.origin);
  return url && (schemes.includes(url.protocol) || url.origin === location.origin) ? url.href : "";
}

/** The text in pieces, with the spans in bold; spans count code points, as in Python. */
export function marked(text, spans = []) {
  const letters = Array.from(text);
  const piece = (start, end) => letters.slice(start, end).join("");
  let at = 0;
  const pieces = spans.map(([start, end]) => {
    const before = piece(at, start);
    at = end;
    return [before, el("b", { text: piece(start, end) })];
  });
  return [pieces, piece(at)];
}

/** Announces the number of products once it is stable, not for every typed letter. */
export function announceCount(text) {
  clearTimeout(timer);
  const place = document.getElementById("status");
  timer = setTimeout(() => place.textContent !== text && (place.textContent = text), 600);
}

/** Announces a result, and shows it unless the page shows it elsewhere. */
export function announce(text, { isShown = true } = {}) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.toggle("shown", isShown);
  clearTimeout(place.timer);
  place.timer = setTimeout(() => place.classList.remove("shown"), SHOWN_MS);
}

/** An icon of 24 by 24 units from one path. */
export function icon(path) {
  return el("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" }, el("path", { d: path }));
}

export const ICONS = {
  search: "M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13m4.8 11.3L20 20",
  close: "M6 6l12 12M18 6L6 18",
  back: "M14.5 5.5L8 12l6.5 6.5",
  next: "M9.5 5.5L16 12l-6.5 6.5",
  filter: "M4 7h16M7 12h10M10 17h4",
  plus: "M12 5.5v13M5.5 12h13",
  clock: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16m0 3.5V12l3 2",
  tag: "M4 4h7.5L20 12.5 12.5 20 4 11.5zM8 8h.01",
  folder: "M4 6.5h5.5l2 2.5H20v9H4z",
};
