// Filters of a search: categories, values with counts, a price range; and the active filters.

import { addressOf, isNarrowed, rangeOf, withRange, withValues } from "./address.js";
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
  return Object.entries(place.filters).flatMap(([field, values]) =>
    values.map((value) => [filterName(field, value), withValues(place, field, values.filter((each) => each !== value))]));
}

/** The active filters, each with a button that removes it. */
export function chips(place, go) {
  if (!isNarrowed(place)) return [];
  const items = activeFilters(place).map(([name, next]) => {
    const label = t("remove", { name });
    const press = { type: "button", class: "chip", "aria-label": label, "data-key": `chip ${name}`, onclick: () => go(next) };
    return el("li", {}, el("button", press, el("span", { text: name }), icon(ICONS.close)));
  });
  const all = el("button", { type: "button", class: "quiet", text: t("clear all"), onclick: () => go({ ...place, filters: {}, page: 1 }) });
  return [el("ul", { class: "chips", role: "list", "aria-label": t("chosen") }, items, el("li", {}, all))];
}

/** The name of a selected value or range; numbers include the field's name. */
function filterName(field, value) {
  const range = rangeOf(value);
  if (!range) return /^-?[\d.]+$/.test(value) ? `${fieldName(field)}: ${value}` : valueName(field, value);
  if (field === "rating") return t("stars up", { count: range[0] });
  if (field !== "price") return `${fieldName(field)}: ${rangeText(range)}`;
  const [low, high] = range.map((bound) => (bound === null ? "" : money(bound, "")));
  if (low && high) return `${low} – ${high}`;
  return low ? t("at least", { low }) : t("at most", { high });
}

/** Proposed filters for a broad query: the values of each field with their numbers of hits. */
export function choices(place, answer) {
  return answer.choices.filter((each) => each.values.length > 1).map(({ field, values }) => {
    const items = values.map(({ count, ...value }) => {
      const label = [el("span", { text: choiceName(field, value) }), el("span", { class: "count", text: number(count) })];
      return el("li", {}, el("a", { class: "pick", href: addressOf(chose(place, field, value)) }, label));
    });
    return el("div", { class: "narrow" }, el("span", { class: "narrow-name", text: fieldName(field) }), el("ul", { role: "list" }, items));
  });
}

function choiceName(field, { value, low, high }) {
  if (value !== null) return field === "category" ? value.split(PATH).at(-1) : valueName(field, value);
  return rangeText([low, high]);
}

/** The place after one value of a choice is chosen. The page's price filter includes both ends. */
function chose(place, field, { value, low, high }) {
  if (value !== null) return withValues(place, field, [String(value)]);
  return withRange(place, field, low, field === "price" && high !== null ? Math.round(high * 100 - 1) / 100 : high);
}

function rangeText([low, high]) {
  if (low === null) return `< ${number(high)}`;
  return high === null ? `≥ ${number(low)}` : `${number(low)} – ${number(high)}`;
}

function group(name, ...children) {
  return el("fieldset", { class: "group" }, el("legend", { text: name }), children);
}

function categories(place, facet, isForeign, go) {
  const [now = ""] = place.filters.category || [];
  const chosen = now ? now.split(PATH) : [];
  const start = now && now + PATH;
  const isNext = ({ value }) => value.startsWith(start) && !value.slice(start.length).includes(PATH);
  const all = (facet?.counts || []).filter(isNext);
  const own = all.filter(({ value }) => !isForeign(value));
  const next = own.length && !now ? own : all;
  if (!next.length && !now) return null;
  const item = (name, count, path, mark) => el("li", {}, el("button", {
    type: "button", class: "choice", "data-key": `category ${path}`, onclick: () => go(withValues(place, "category", path ? [path] : [])),
  }, mark && icon(mark), el("span", { text: name }), counted(count)));
  const up = chosen.map((name, depth) => {
    const path = chosen.slice(0, depth + 1).join(PATH);
    return path === now ? el("li", {}, el("b", { class: "here", "aria-current": "true", text: name })) : item(name, null, path, ICONS.back);
  });
  const down = ({ value, count }) => item(value.slice(start.length), count, value);
  return group(t("category"), el("ul", { role: "list" }, now && item(t("all categories"), null, "", ICONS.back), up), valueList("category", t("category"), next, down));
}

function counted(count) {
  return count !== null && el("small", { text: number(count) });
}

/** The filter for a minimum number of stars. */
function ratings(place, facet, go) {
  const counts = facet?.counts || [];
  const now = rangeOf(place.filters.rating?.[0])?.[0] || 0;
  if (!counts.length && !now) return null;
  const options = [4, 3, 2, 0].map((least) => {
    const isOn = now === least;
    const count = counts.reduce((sum, each) => sum + (each.value >= least ? each.count : 0), 0);
    const set = () => go(withRange(place, "rating", least || null, null));
    const props = { type: "radio", name: "rating", value: least, "data-key": `rating ${least}`, checked: isOn, disabled: !isOn && least > 0 && !count, onchange: set };
    const label = least ? [
      el("span", { class: "stars", "aria-hidden": "true" }, el("b", { text: "★".repeat(least) }), "★".repeat(5 - least)),
      el("span", { text: t("stars up", { count: least }) }), counted(count),
    ] : el("span", { text: t("any rating") });
    return el("label", { class: "choice" }, el("input", props), label);
  });
  return group(fieldName("rating"), options);
}

function values(place, field, facet, go) {
  const selected = place.filters[field] || [];
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
  const show = () => {
    sought.set(field, input.value);
    const part = input.value.trim().toLowerCase();
    const found = every.filter(({ value }) => valueName(field, value).toLowerCase().includes(part)).slice(0, MAX_LISTED);
    fill(list, found.length || !part ? found.map(item) : el("li", { class: "brand", text: t("find none") }));
  };
  const isMany = every.length > MIN_SOUGHT;
  const input = el("input", { type: "search", class: "find", "aria-label": label, placeholder: label, maxlength: 100, "data-key": `find ${field}`, value: isMany && sought.get(field), oninput: show });
  show();
  return [isMany && input, list];
}

function prices(place, facet, go) {
  const range = rangeOf(place.filters.price?.[0]);
  if (!facet || (facet.minimum === null && !range)) return null;
  const input = (at, key, hint) => el("label", { class: "bound" }, el("span", { text: t(key) }), el("input", {
    type: "number", min: 0, step: "any", inputmode: "decimal", "data-key": key, value: range?.[at], placeholder: hint,
  }));
  const labels = [input(0, "price from", facet.minimum === null ? "" : Math.floor(facet.minimum)), input(1, "price to", facet.maximum === null ? "" : Math.ceil(facet.maximum))];
  const submit = () => {
    const bounds = labels.map((label) => label.querySelector("input").valueAsNumber);
    go(withRange(place, "price", ...bounds.map((value) => (value >= 0 ? value : null))));
  };
  const apply = el("button", { class: "small", text: t("price set"), "data-key": "price set" });
  return group(t("price"), el("form", { class: "prices", method: "dialog", onsubmit: submit }, labels, apply));
}
