// Narrowing a search: categories, values with their counts, a range of prices; and what of it is chosen.

import { isNarrowed, widened } from "./address.js";
import { ICONS, el, icon } from "./dom.js";
import { fieldName, money, number, t, valueName } from "./words.js";

const SHOWN = 8;
const PATH = " > ";
const opened = new Set();

/** The groups of filters; `go` is called with the place that a choice leads to. */
export function facetGroups(place, facets, facts, go) {
  const made = [categories(place, facets.category, go)];
  for (const field of facts.facets) {
    made.push(field === "price" ? prices(place, facets.price, go) : values(place, field, facets[field], go));
  }
  return made.filter(Boolean);
}

/** What is chosen, each to be taken away. */
export function chips(place, go) {
  if (!isNarrowed(place)) return [];
  const made = [];
  if (place.category) made.push([place.category, { ...place, category: "", page: 1 }]);
  const price = priceText(place.price);
  if (price) made.push([price, { ...place, price: [null, null], page: 1 }]);
  for (const [field, chosen] of Object.entries(place.chosen)) {
    for (const value of chosen) made.push([valueName(field, value), without(place, field, value)]);
  }
  const items = made.map(([name, next]) => {
    const label = t("remove", { name });
    const press = { type: "button", class: "chip", "aria-label": label, "data-key": `chip ${name}`, onclick: () => go(next) };
    return el("li", {}, el("button", press, el("span", { text: name }), icon(ICONS.close)));
  });
  const all = el("button", { type: "button", class: "quiet", text: t("clear all"), onclick: () => go(widened(place)) });
  return [el("ul", { class: "chips", role: "list", "aria-label": t("chosen") }, items, el("li", {}, all))];
}

/** How many filters are chosen. */
export function chosenCount(place) {
  const values = Object.values(place.chosen).reduce((sum, each) => sum + each.length, 0);
  return values + (place.category ? 1 : 0) + (priceText(place.price) ? 1 : 0);
}

function group(name, ...children) {
  return el("fieldset", { class: "group" }, el("legend", { text: name }), children);
}

function categories(place, facet, go) {
  const chosen = place.category ? place.category.split(PATH) : [];
  const start = chosen.length ? place.category + PATH : "";
  const isNext = ({ value }) => value.startsWith(start) && !value.slice(start.length).includes(PATH);
  const next = (facet?.counts || []).filter(isNext);
  if (!next.length && !chosen.length) return null;
  const to = (category) => () => go({ ...place, category, page: 1 });
  const up = chosen.map((name, depth) => {
    const path = chosen.slice(0, depth + 1).join(PATH);
    if (path === place.category) return el("li", {}, el("b", { class: "here", "aria-current": "true", text: name }));
    return el("li", {}, choice(name, null, `category ${path}`, to(path), ICONS.back));
  });
  const all = chosen.length ? [el("li", {}, choice(t("all categories"), null, "category", to(""), ICONS.back))] : [];
  const down = next.map(({ value, count }) =>
    el("li", {}, choice(value.slice(start.length), count, `category ${value}`, to(value))));
  return group(t("category"), el("ul", { role: "list" }, all, up), long("category", down));
}

function choice(name, count, key, onclick, path) {
  const mark = path ? icon(path) : null;
  const counted = count === null ? null : el("small", { text: number(count) });
  return el("button", { type: "button", class: "choice", "data-key": key, onclick }, mark, el("span", { text: name }), counted);
}

function values(place, field, facet, go) {
  const chosen = place.chosen[field] || [];
  const counts = (facet?.counts || []).map(({ value, count }) => ({ value: String(value), count }));
  const missing = chosen.filter((value) => !counts.some((each) => each.value === value));
  const all = [...missing.map((value) => ({ value, count: null })), ...counts];
  if (!all.length || (all.length === 1 && !chosen.length)) return null;
  // What is chosen stands first, so that it is never behind "show all".
  const ordered = [...all.filter((each) => chosen.includes(each.value)), ...all.filter((each) => !chosen.includes(each.value))];
  const items = ordered.map(({ value, count }) => {
    const isOn = chosen.includes(value);
    const change = () => go(isOn ? without(place, field, value) : within(place, field, value));
    const box = el("input", { type: "checkbox", "data-key": `${field} ${value}`, checked: isOn, onchange: change });
    const text = el("span", { text: valueName(field, value) });
    return el("li", {}, el("label", { class: "choice" }, box, text, count === null ? null : el("small", { text: number(count) })));
  });
  return group(fieldName(field), long(field, items));
}

/** A list that shows its first ones until all are asked for. */
function long(name, items) {
  const list = el("ul", { role: "list" }, items);
  if (items.length <= SHOWN + 2 || opened.has(name)) return list;
  items.slice(SHOWN).forEach((item) => (item.hidden = true));
  const more = el("button", { type: "button", class: "quiet", text: t("more values", { count: items.length }) });
  more.addEventListener("click", () => {
    opened.add(name);
    items.forEach((item) => (item.hidden = false));
    items[SHOWN].querySelector("button, input").focus();
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
  const submit = (event) => {
    event.preventDefault();
    const [from, to] = [low, high].map((label) => label.querySelector("input").valueAsNumber);
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
