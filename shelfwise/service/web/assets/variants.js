// The choices on a product page: options of its variants, and attributes in which its siblings differ.

import { productAddress } from "./address.js";
import { el, fill, keepFocus } from "./dom.js";
import { paintOfWord } from "./picture.js";
import { fieldName, t, valueName } from "./words.js";

const MAX_DOTS = 6;
const MAX_VALUES = 30;
const COLOUR = /colou?r|颜色/i;
const FIRST = ["color", "colour", "product_colour", "size"];

/** Radio buttons for each option of a product's variants; `pick` is called with the variant that is chosen. */
export function variantChoices(product, pick) {
  const { variants } = product;
  if (!variants.length) return null;
  pick(variants[0]);
  if (variants.length < 2) return null;
  const all = variants.map((each) => ({ variant: each, options: optionsOf(each) }));
  const names = [...new Set(all.flatMap(({ options }) => Object.keys(options)))];
  const element = el("div", { class: "choices" });
  let chosen = all[0];
  const choose = (name, value) => {
    chosen = nearest(all, { ...chosen.options, [name]: value }, name);
    pick(chosen.variant);
    keepFocus(element, render);
  };
  const render = () => fill(element, names.map((name, at) => {
    const radios = valuesOf(all, name).map((value) => {
      const wanted = { ...chosen.options, [name]: value };
      const isThere = all.some(({ variant, options }) => names.every((each) => options[each] === wanted[each]) && variant.availability !== "out_of_stock");
      const box = el("input", { type: "radio", name: `option-${at}`, value, "data-key": `${name} ${value}`,
        checked: chosen.options[name] === value, onchange: () => choose(name, value) });
      return el("label", { class: isThere ? "variant" : "variant out" }, box, el("span", {}, swatch(name, value), value));
    });
    return el("fieldset", { class: "variants" }, el("legend", { text: name || t("variants") }), radios);
  }));
  render();
  return element;
}

/** Links to the siblings of a product, by the attributes in which they differ. */
export function siblingChoices(product, siblings) {
  const all = [product, ...siblings].map((each) => ({ product: each, options: each.attributes }));
  return distinctive(all).map((name) => {
    const links = valuesOf(all, name).map((value) => {
      const other = nearest(all, { ...product.attributes, [name]: value }, name).product;
      const isOut = other.availability === "out_of_stock";
      const props = { class: isOut ? "variant out" : "variant", href: productAddress(other.id), "aria-current": product.attributes[name] === value ? "true" : null };
      return el("li", {}, el("a", props, el("span", {}, swatch(name, value), valueName(name, value))));
    });
    const label = fieldName(`attributes.${name}`);
    return el("section", { class: "variants", "aria-label": label }, el("h2", { text: label }), el("ul", { role: "list" }, links));
  });
}

/** Short form of the options of a product's variants for its card; null if there are none. */
export function optionsInShort(product) {
  const all = product.variants.map((each) => ({ options: optionsOf(each) }));
  const names = [...new Set(all.flatMap(({ options }) => Object.keys(options)))].filter(Boolean);
  const parts = names.map((name) => {
    const values = valuesOf(all, name);
    if (values.length < 2) return null;
    const dots = values.map((value) => swatch(name, value)).filter(Boolean);
    if (dots.length < values.length) return el("span", { text: values.join(" · ") });
    return el("span", {}, el("span", { class: "sr", text: `${name}: ${values.join(", ")}` }), dots.slice(0, MAX_DOTS), dots.length > MAX_DOTS ? `+${dots.length - MAX_DOTS}` : null);
  }).filter(Boolean);
  return parts.length ? el("p", { class: "options" }, parts) : null;
}

/** A variant's options; its id if it has none. */
function optionsOf(variant) {
  return Object.keys(variant.options).length ? variant.options : { "": variant.id };
}

function valuesOf(all, name) {
  const values = [...new Set(all.map(({ options }) => options[name]).filter((value) => value !== undefined))];
  return typeof values[0] === "number" ? values.sort((one, other) => one - other) : values;
}

/** The entry that matches most of the wanted values among those with the wanted value of `name`. */
function nearest(all, wanted, name) {
  const fit = ({ options }) => Object.keys(wanted).filter((each) => options[each] === wanted[each]).length;
  return all.filter(({ options }) => options[name] === wanted[name]).reduce((best, each) => (fit(each) > fit(best) ? each : best));
}

/** A few attributes that distinguish the products: colours and sizes first, then those that titles contain, then those
 * with few values. */
function distinctive(all) {
  const names = [...new Set(all.flatMap(({ options }) => Object.keys(options)))].filter((name) => {
    const values = valuesOf(all, name);
    return values.length > 1 && values.length <= MAX_VALUES && values.every((value) => typeof value !== "object");
  });
  const isTitled = (name) => all.every(({ product, options }) => product.title.toLowerCase().includes(String(options[name]).toLowerCase()));
  const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : (isTitled(name) ? 100 : 1000) + valuesOf(all, name).length);
  const taken = [];
  let kinds = 1;
  for (const name of names.sort((one, other) => rank(one) - rank(other))) {
    const told = new Set(all.map(({ options }) => JSON.stringify([...taken, name].map((each) => options[each] ?? null)))).size;
    if (told === kinds) continue;
    taken.push(name);
    kinds = told;
  }
  return taken;
}

function swatch(name, value) {
  const paint = COLOUR.test(name) && typeof value === "string" ? paintOfWord(value) : undefined;
  return paint ? el("i", { class: "swatch", "aria-hidden": "true", "--paint": paint }) : null;
}
