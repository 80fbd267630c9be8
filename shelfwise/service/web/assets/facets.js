// Filters of a search: categories, values with counts, a price range; and the active filters.

import { addressOf, isNarrowed, widened } from "./address.js";
import { ICONS, el, fill, icon } from "./dom.js";
import { fieldName, money, number, t, valueName } from "./words.js";

const SHOWN = 8;
const PATH = " > ";
const MOST_LISTED = 100;
const opened = new Set();
/** The text typed into the finder of each field. */
const sought = new Map();

/** The filter groups. `store.fields` are the facet fields, `store.isForeign` detects categories in another language.
 * `go` is called with the place that results from a choice. */
export function facetGroups(place, facets, store, go) {
  const made = [categories(place, facets.category, store.isForeign, go)];
  for (const field of store.fields) {
    if (field === "price") made.push(prices(place, facets.price, go));
    else if (field === "rating") made.push(ratings(place, facets.rating, go));
    else made.push(values(place, field, facets[field], go));
  }
  return made.filter(Boolean);
}

/** The names of the active filters, each with the place without it. */
export function activeFilters(place) {
  const made = [];
  if (place.category) made.push([place.category, { ...place, category: "", page: 1 }]);
  const price = priceText(place.price);
  if (price) made.push([price, { ...place, price: [null, null], page: 1 }]);
  if (place.rating) made.push([t("stars up", { count: place.rating }), { ...place, rating: 0, page: 1 }]);
  for (const [field, chosen] of Object.entries(place.chosen)) {
    for (const value of chosen) made.push([chosenName(field, value), without(place, field, value)]);
  }
  for (const [field, range] of Object.entries(place.within)) {
    const { [field]: _gone, ...within } = place.within;
    made.push([`${fieldName(field)}: ${rangeText(range)}`, { ...place, within, page: 1 }]);
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

/** The name of a chosen value; numbers include the field's name. */
function chosenName(field, value) {
  return /^-?[\d.]+$/.test(value) ? `${fieldName(field)}: ${value}` : valueName(field, value);
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
  const next = { ...place, page: 1 };
  if (field === "category") return { ...next, category: value };
  if (field === "price") return { ...next, price: [low, below(high)] };
  if (value === null) return { ...next, within: { ...place.within, [field]: [low, high] } };
  return { ...next, chosen: { ...place.chosen, [field]: [String(value)] } };
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
  const to = (category) => () => go({ ...place, category, page: 1 });
  const up = chosen.map((name, depth) => {
    const path = chosen.slice(0, depth + 1).join(PATH);
    if (path === place.category) return el("li", {}, el("b", { class: "here", "aria-current": "true", text: name }));
    return el("li", {}, choice(name, null, `category ${path}`, to(path), ICONS.back));
  });
  const top = chosen.length ? [el("li", {}, choice(t("all categories"), null, "category", to(""), ICONS.back))] : [];
  const down = ({ value, count }) => el("li", {}, choice(value.slice(start.length), count, `category ${value}`, to(value)));
  return group(t("category"), el("ul", { role: "list" }, top, up), long("category", next, down));
}

function choice(name, count, key, onclick, path) {
  const mark = path ? icon(path) : null;
  const counted = count === null ? null : el("small", { text: number(count) });
  return el("button", { type: "button", class: "choice", "data-key": key, onclick }, mark, el("span", { text: name }), counted);
}

/** The filter for a minimum number of stars. */
function ratings(place, facet, go) {
  const counts = facet?.counts || [];
  if (!counts.length && !place.rating) return null;
  const options = [4, 3, 2, 0].map((least) => {
    const isOn = place.rating === least;
    const count = counts.reduce((sum, each) => sum + (each.value >= least ? each.count : 0), 0);
    const isEmpty = !isOn && least > 0 && !count;
    const set = () => go({ ...place, rating: least, page: 1 });
    const props = { type: "radio", name: "rating", value: least, "data-key": `rating ${least}`, checked: isOn, disabled: isEmpty, onchange: set };
    const stars = least ? el("span", { class: "stars", "aria-hidden": "true" }, el("b", { text: "★".repeat(least) }), "★".repeat(5 - least)) : null;
    return el("label", { class: "choice" }, el("input", props), stars, el("span", { text: least ? t("stars up", { count: least }) : t("any rating") }), least ? el("small", { text: number(count) }) : null);
  });
  return group(fieldName("rating"), options);
}

function values(place, field, facet, go) {
  const chosen = place.chosen[field] || [];
  const counts = (facet?.counts || []).map(({ value, count }) => ({ value: String(value), count }));
  const missing = chosen.filter((value) => !counts.some((each) => each.value === value));
  const all = [...missing.map((value) => ({ value, count: null })), ...counts];
  if (!all.length || (all.length === 1 && !chosen.length)) return null;
  // Chosen values come first, so that "show all" never hides them.
  const ordered = [...all.filter((each) => chosen.includes(each.value)), ...all.filter((each) => !chosen.includes(each.value))];
  const item = ({ value, count }) => {
    const isOn = chosen.includes(value);
    const change = () => go(isOn ? without(place, field, value) : within(place, field, value));
    const box = el("input", { type: "checkbox", "data-key": `${field} ${value}`, checked: isOn, onchange: change });
    const text = el("span", { text: valueName(field, value) });
    return el("li", {}, el("label", { class: "choice" }, box, text, count === null ? null : el("small", { text: number(count) })));
  };
  const parts = long(field, ordered, item);
  return group(fieldName(field), all.length > SHOWN + 2 ? finder(field, ordered, parts, item) : parts);
}

/** A text field that filters the values of a facet, with the list of values. */
function finder(field, known, parts, item) {
  const holder = el("div", {}, parts);
  const label = t("find in", { name: fieldName(field) });
  const input = el("input", { type: "search", class: "find", "aria-label": label, placeholder: label, maxlength: 100, "data-key": `find ${field}` });
  const find = () => {
    const text = input.value.trim().toLowerCase();
    sought.set(field, input.value);
    if (!text) return fill(holder, parts);
    const found = known.filter(({ value }) => valueName(field, value).toLowerCase().includes(text));
    return fill(holder, found.length ? el("ul", { role: "list" }, found.slice(0, MOST_LISTED).map(item)) : el("p", { class: "brand", text: t("find none") }));
  };
  input.addEventListener("input", find);
  if (sought.get(field)) {
    input.value = sought.get(field);
    find();
  }
  return [input, holder];
}

/** A list that shows its first items until all are requested. */
function long(name, every, item) {
  const all = every.slice(0, MOST_LISTED);
  if (all.length <= SHOWN + 2 || opened.has(name)) return el("ul", { role: "list" }, all.map(item));
  const list = el("ul", { role: "list" }, all.slice(0, SHOWN).map(item));
  const text = all.length === every.length ? t("more values", { count: all.length }) : t("first values", { count: all.length });
  const more = el("button", { type: "button", class: "quiet", text });
  more.addEventListener("click", () => {
    opened.add(name);
    list.append(...all.slice(SHOWN).map(item));
    list.children[SHOWN].querySelector("button, input").focus();
    more.remove();
  });
  return [list, more];
}

function prices(place, facet, go) {
  if (!facet || (facet.minimum === null && !priceText(place.price))) return null;
  const input = (at, key, hint) => el("label", { class: "bound" }, el("span", { text: t(key) }), el("input", {
    type: "number", min: 0, step: "any", inputmode: "decimal", "data-key": key, value: place.price[at], placeholder: hint,
  }));
  const low = input(0, "price from", facet.minimum === null ? "" : Math.floor(facet.minimum));
  const high = input(1, "price to", facet.maximum === null ? "" : Math.ceil(facet.maximum));
  const fields = [low, high].map((label) => label.querySelector("input"));
  const submit = (event) => {
    event.preventDefault();
    const [from, to] = fields.map((field) => field.valueAsNumber);
    go({ ...place, price: [from, to].map((value) => (value >= 0 ? value : null)), page: 1 });
  };
  const apply = el("button", { class: "small", text: t("price set"), "data-key": "price set" });
  return group(t("price"), el("form", { class: "prices", onsubmit: submit }, low, high, apply));
}

function priceText([low, high]) {
  const [from, to] = [low, high].map((value) => (value === null ? "" : money(value, "")));
  if (from && to) return `${from} – ${to}`;
  if (from) return t("price above", { low: from });
  return to && t("price below", { high: to });
}

function within(place, field, value) {
  return { ...place, chosen: { ...place.chosen, [field]: [...(place.chosen[field] || []), value] }, page: 1 };
}

function without(place, field, value) {
  const { [field]: values, ...others } = place.chosen;
  const left = values.filter((each) => each !== value);
  return { ...place, chosen: left.length ? { ...others, [field]: left } : others, page: 1 };
}
