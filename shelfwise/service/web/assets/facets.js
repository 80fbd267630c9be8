// Filters of a search: categories, values with counts, a price range; and the active filters.

import { addressOf, isNarrowed, widened, withRange, withValues } from "./address.js";
import { ICONS, el, fill, icon } from "./dom.js";
import { fieldName, money, number, t, valueName } from "./words.js";

/** Number of values above which a field filters them. */
const MIN_SOUGHT = 10;
const MAX_LISTED = 100;
const PATH = " > ";
/** The text typed into the finder of each field. */
const sought = new Map();

/** The filter groups. `store.fields` are the facet fields, `store.isForeign` detects categories in another language.
 * `go` is called with the place that results from a choice. */
export function facetGroups(place, facets, store, go) {
  const groupOf = (field) => {
    if (field === "price") return prices(place, facets.price, go);
    return field === "rating" ? ratings(place, facets.rating, go) : values(place, field, facets[field], go);
  };
  return [categories(place, facets.category, store.isForeign, go), store.fields.map(groupOf)];
}

/** The names of the active filters, each with the place without it. */
export function activeFilters(place) {
  const made = [];
  if (place.category) made.push([place.category, { ...place, category: "", page: 1 }]);
  for (const [field, range] of Object.entries(place.within)) made.push([rangeName(field, range), withRange(place, field, [null, null])]);
  for (const [field, values] of Object.entries(place.selected)) {
    for (const value of values) made.push([valueLabel(field, value), withValues(place, field, values.filter((each) => each !== value))]);
  }
  return made;
}

/** The active filters, each with a button that removes it. */
export function chips(place, go) {
  if (!isNarrowed(place)) return [];
  const items = activeFilters(place).map(([name, next]) => {
    const label = t("remove", { name });
    const press = { type: "button", class: "chip", "aria-label": label, "data-key": `chip ${name}`, onclick: () => go(next) };
    return el("li", {}, el("button", press, el("span", { text: name }), icon(ICONS.close)));
  });
  const all = el("button", { type: "button", class: "quiet", text: t("clear all"), onclick: () => go(widened(place)) });
  return [el("ul", { class: "chips", role: "list", "aria-label": t("chosen") }, items, el("li", {}, all))];
}

/** The name of a selected value; numbers include the field's name. */
function valueLabel(field, value) {
  return /^-?[\d.]+$/.test(value) ? `${fieldName(field)}: ${value}` : valueName(field, value);
}

function rangeName(field, range) {
  if (field === "rating") return t("stars up", { count: range[0] });
  if (field !== "price") return `${fieldName(field)}: ${rangeText(range)}`;
  const [low, high] = range.map((value) => (value === null ? "" : money(value, "")));
  if (low && high) return `${low} – ${high}`;
  return low ? t("at least", { low }) : t("at most", { high });
}

/** Proposed filters for a broad query: the values of each field with their numbers of hits. */
export function choices(place, answer) {
  return answer.choices.filter((each) => each.values.length > 1).map(({ field, values }) => {
    const items = values.map((each) => {
      const label = [el("span", { text: choiceName(field, each) }), el("span", { class: "count", text: number(each.count) })];
      return el("li", {}, el("a", { class: "pick", href: addressOf(chose(place, field, each)) }, label));
    });
    return el("div", { class: "narrow" }, el("span", { class: "narrow-name", text: fieldName(field) }), el("ul", { role: "list" }, items));
  });
}

function choiceName(field, { value, low, high }) {
  if (value !== null) return field === "category" ? value.split(PATH).at(-1) : valueName(field, value);
  return rangeText([low, high]);
}

/** The place after one value of a choice is chosen. */
function chose(place, field, { value, low, high }) {
  if (field === "category") return { ...place, category: value, page: 1 };
  if (field === "price") return withRange(place, field, [low, below(high)]);
  return value === null ? withRange(place, field, [low, high]) : withValues(place, field, [String(value)]);
}

/** The highest price below a bound, since the page's price filter includes both ends. */
function below(high) {
  return high === null ? null : Math.round(high * 100 - 1) / 100;
}

function rangeText([low, high]) {
  if (low === null) return `< ${number(high)}`;
  return high === null ? `≥ ${number(low)}` : `${number(low)} – ${number(high)}`;
}

function group(name, ...children) {
  return el("fieldset", { class: "group" }, el("legend", { text: name }), children);
}

function categories(place, facet, isForeign, go) {
  const chosen = place.category ? place.category.split(PATH) : [];
  const start = chosen.length ? place.category + PATH : "";
  const isNext = ({ value }) => value.startsWith(start) && !value.slice(start.length).includes(PATH);
  const all = (facet?.counts || []).filter(isNext);
  const own = all.filter(({ value }) => !isForeign(value));
  const next = own.length && !chosen.length ? own : all;
  if (!next.length && !chosen.length) return null;
  const item = (name, count, path, mark) => el("li", {}, choice(name, count, `category ${path}`, () => go({ ...place, category: path, page: 1 }), mark));
  const up = chosen.map((name, depth) => {
    const path = chosen.slice(0, depth + 1).join(PATH);
    return path === place.category ? el("li", {}, el("b", { class: "here", "aria-current": "true", text: name })) : item(name, null, path, ICONS.back);
  });
  const down = ({ value, count }) => item(value.slice(start.length), count, value);
  return group(t("category"), el("ul", { role: "list" }, chosen.length && item(t("all categories"), null, "", ICONS.back), up), valueList("category", t("category"), next, down));
}

function choice(name, count, key, onclick, path) {
  return el("button", { type: "button", class: "choice", "data-key": key, onclick }, path && icon(path), el("span", { text: name }), counted(count));
}

function counted(count) {
  return count !== null && el("small", { text: number(count) });
}

/** The filter for a minimum number of stars. */
function ratings(place, facet, go) {
  const counts = facet?.counts || [];
  const now = place.within.rating?.[0] || 0;
  if (!counts.length && !now) return null;
  const options = [4, 3, 2, 0].map((least) => {
    const isOn = now === least;
    const count = counts.reduce((sum, each) => sum + (each.value >= least ? each.count : 0), 0);
    const isEmpty = !isOn && least > 0 && !count;
    const set = () => go(withRange(place, "rating", [least || null, null]));
    const props = { type: "radio", name: "rating", value: least, "data-key": `rating ${least}`, checked: isOn, disabled: isEmpty, onchange: set };
    const stars = least ? el("span", { class: "stars", "aria-hidden": "true" }, el("b", { text: "★".repeat(least) }), "★".repeat(5 - least)) : null;
    return el("label", { class: "choice" }, el("input", props), stars, el("span", { text: least ? t("stars up", { count: least }) : t("any rating") }), least ? el("small", { text: number(count) }) : null);
  });
  return group(fieldName("rating"), options);
}

function values(place, field, facet, go) {
  const selected = place.selected[field] || [];
  const counts = (facet?.counts || []).map(({ value, count }) => ({ value: String(value), count }));
  const missing = selected.filter((value) => !counts.some((each) => each.value === value));
  const all = [...missing.map((value) => ({ value, count: null })), ...counts];
  if (!all.length || (all.length === 1 && !selected.length)) return null;
  const isOn = ({ value }) => selected.includes(value);
  const item = (each) => {
    const { value, count } = each;
    const change = () => go(withValues(place, field, isOn(each) ? selected.filter((other) => other !== value) : [...selected, value]));
    const box = el("input", { type: "checkbox", "data-key": `${field} ${value}`, checked: isOn(each), onchange: change });
    return el("li", {}, el("label", { class: "choice" }, box, el("span", { text: valueName(field, value) }), counted(count)));
  };
  return group(fieldName(field), valueList(field, fieldName(field), [...all.filter(isOn), ...all.filter((each) => !isOn(each))], item));
}

/** A list of values that scrolls, with a field that filters it if there are many. */
function valueList(field, name, every, item) {
  const list = el("ul", { role: "list", class: "values" });
  const label = t("find in", { name });
  const show = (text) => {
    const part = text.trim().toLowerCase();
    const found = every.filter(({ value }) => valueName(field, value).toLowerCase().includes(part)).slice(0, MAX_LISTED);
    fill(list, found.length || !part ? found.map(item) : el("li", { class: "brand", text: t("find none") }));
  };
  if (every.length <= MIN_SOUGHT) {
    show("");
    return list;
  }
  const input = el("input", { type: "search", class: "find", "aria-label": label, placeholder: label, maxlength: 100, "data-key": `find ${field}`, value: sought.get(field) || "" });
  input.addEventListener("input", () => {
    sought.set(field, input.value);
    show(input.value);
  });
  show(input.value);
  return [input, list];
}

function prices(place, facet, go) {
  const range = place.within.price;
  if (!facet || (facet.minimum === null && !range)) return null;
  const input = (at, key, hint) => el("label", { class: "bound" }, el("span", { text: t(key) }), el("input", {
    type: "number", min: 0, step: "any", inputmode: "decimal", "data-key": key, value: range?.[at], placeholder: hint,
  }));
  const labels = [input(0, "price from", facet.minimum === null ? "" : Math.floor(facet.minimum)), input(1, "price to", facet.maximum === null ? "" : Math.ceil(facet.maximum))];
  const submit = (event) => {
    event.preventDefault();
    const bounds = labels.map((label) => label.querySelector("input").valueAsNumber);
    go(withRange(place, "price", bounds.map((value) => (value >= 0 ? value : null))));
  };
  const apply = el("button", { class: "small", text: t("price set"), "data-key": "price set" });
  return group(t("price"), el("form", { class: "prices", onsubmit: submit }, labels, apply));
}
