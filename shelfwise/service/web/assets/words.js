// The page's texts, in English and Chinese; texts of the store are not translated.

import { browser } from "./visitor.js";
import { TEXTS } from "./texts.js";

const LOCALES = { en: "en", zh: "zh-CN" };
/** Units as suffixes of field names, with their spelling. */
const UNITS = Object.fromEntries(["kg", "g", "mg", "lb", "oz", "km", "m", "cm", "mm",
  "in", "ft", "yd", "l", "ml", "cl", "qt", "pt", "gal", "W", "kW", "Wh", "kWh", "V", "kV", "A", "mA", "Ah", "mAh", "Hz", "kHz", "MHz",
  "GHz", "KB", "MB", "GB", "TB", "MP", "psi", "rpm", "lm", "dB"]
  .map((unit) => [unit.toLowerCase(), unit]));

function preferred() {
  const kept = browser.read("language");
  if (kept in LOCALES) return kept;
  return (navigator.languages || []).map((each) => each.slice(0, 2)).find((each) => each in LOCALES) || "en";
}

/** The language of the page, "en" or "zh". */
export let language = preferred();
/** Texts of the store that replace those of the page, by language. */
let own = {};
let hasPrices = true;

/** Sets the texts of a store, its language if that is fixed, and whether any of its products has a price. */
export function useLook({ texts, language: fixed }, isPriced) {
  own = texts;
  hasPrices = isPriced;
  language = fixed ?? language;
}

/** The language to which visitors can change the page. */
export function otherLanguage() {
  return language === "en" ? "zh" : "en";
}

export function changeLanguage() {
  language = otherLanguage();
  browser.write("language", language);
}

/** The text of a name in the page's language, else in English. */
function textOf(name) {
  const [english, chinese] = TEXTS[name] || [];
  return language === "zh" ? chinese ?? english : english;
}

/** The text of a name, with placeholders replaced; a count selects `name` or `name.one`. */
export function t(name, values = {}) {
  const one = values.count === 1 && language === "en" ? textOf(`${name}.one`) : undefined;
  const text = one ?? own[language]?.[name] ?? textOf(name) ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => {
    const value = values[key];
    return typeof value === "number" ? number(value) : String(value ?? whole);
  });
}

export function number(value) {
  return value.toLocaleString(LOCALES[language]);
}

/** A price with its currency, formatted for the language; only the number if there is no currency. Empty for no price
 * in a store without prices. */
export function money(price, currency) {
  if (price === null || price === undefined) return hasPrices ? t("no price") : "";
  const style = currency ? { style: "currency", currency } : { minimumFractionDigits: 2 };
  return price.toLocaleString(LOCALES[language], style);
}

/** The display name of a field; derived from its name if the page has no text for it. */
export function fieldName(field) {
  const bare = field.replace(/^attributes\./, "");
  const whole = textOf(`field.${bare.toLowerCase()}`);
  if (whole) return whole;
  const measured = /^(.+)_([a-z]{1,3})$/i.exec(bare);
  const unit = measured && UNITS[measured[2].toLowerCase()];
  const name = unit ? measured[1] : bare;
  const spaced = name.replace(/([a-z]{2})([A-Z])(?=[a-z])/g, (_, end, first) => `${end} ${first.toLowerCase()}`);
  const text = spaced.replace(/([a-z]{2})([A-Z])/g, "$1 $2").replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
  return (textOf(`field.${name.toLowerCase()}`) || text) + (unit ? t("unit", { unit }) : "");
}

/** The display name of a value of a field. */
export function valueName(field, value) {
  if (field === "availability") return t(`availability.${value}`);
  if (value === "true" || value === true) return t("yes");
  if (value === "false" || value === false) return t("no");
  return typeof value === "number" ? number(value) : String(value);
}

/** Inserts the page's texts into the elements that refer to them. */
export function translate() {
  document.documentElement.lang = LOCALES[language];
  for (const each of document.querySelectorAll("[data-word]")) each.textContent = t(each.dataset.word);
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", t(each.dataset.label));
  for (const each of document.querySelectorAll("[data-hint]")) each.setAttribute("placeholder", t(each.dataset.hint));
}
