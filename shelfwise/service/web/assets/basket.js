// The basket, stored in this browser, and its view: quantities, total and a simulated purchase. Changes are recorded as events if the
// visitor has consented.

import { productAddress } from "./address.js";
import { productsOf } from "./api.js";
import { announce, el, fill, keepFocus } from "./dom.js";
import { mark } from "./picture.js";
import { browser, note } from "./visitor.js";
import { money, t } from "./words.js";

const MAX_LINES = 100;
const MAX_OF_ONE = 99;

/** The lines of the basket: product id, variant id, name and quantity. */
function lines() {
  return browser.read("basket", []);
}

export function count() {
  return lines().reduce((sum, line) => sum + line.quantity, 0);
}

export function add({ id, title }, variant) {
  const option = variant && Object.values(variant.options).join(", ");
  const line = { id, variant: variant?.id || "", name: option ? `${title} (${option})` : title };
  setQuantity(line, (lines().find((each) => isSame(each, line))?.quantity || 0) + 1);
}

/** Sets the quantity of a line; 0 removes it. */
function setQuantity(line, wanted) {
  const all = lines();
  const at = all.findIndex((each) => isSame(each, line));
  const before = all[at]?.quantity || 0;
  const quantity = Math.max(0, Math.min(MAX_OF_ONE, Math.round(wanted) || 0));
  if (quantity === before || (at < 0 && all.length >= MAX_LINES)) return;
  all.splice(at < 0 ? all.length : at, 1, ...(quantity ? [{ ...line, quantity }] : []));
  keep(all);
  note(quantity > before ? "cart" : "removal", line.id, { quantity: Math.abs(quantity - before) });
}

/** Buys these lines and empties the basket: one purchase event per product, summed over variants. */
function buy(bought) {
  for (const [id, own] of Map.groupBy(bought, (line) => line.id)) {
    note("purchase", id, { quantity: own.reduce((sum, line) => sum + line.quantity, 0) });
  }
  keep([]);
}

function isSame(one, other) {
  return one.id === other.id && one.variant === other.variant;
}

function keep(all) {
  browser.write("basket", all);
  dispatchEvent(new Event("basket"));
}

/** The view of the basket. */
export function basketView() {
  const title = el("h1", { id: "view-title", tabindex: "-1", text: t("basket title") });
  const content = el("div");
  let products = [];

  const render = () => {
    const all = lines().map((line) => {
      const product = products.find(({ id }) => id === line.id);
      const variant = product?.variants.find(({ id }) => id === line.variant);
      return { line, product, variant, price: variant?.price ?? product?.price };
    });
    keepFocus(content, () => fill(content, all.length ? [el("ul", { class: "lines", role: "list" }, all.map((each) => item(each, render))), total(all, finish)] : message(t("basket empty"))), title);
  };
  const finish = (bought) => {
    const text = t("thanks", { count: bought.reduce((sum, { quantity }) => sum + quantity, 0) });
    buy(bought);
    title.textContent = t("thanks title");
    fill(content, message(text));
    title.focus();
    announce(text);
  };
  const show = async () => {
    products = await productsOf(lines().map(({ id }) => id));
    render();
  };
  return { element: el("div", { class: "basket" }, title, content), content, show };
}

function item({ line, product, variant, price }, render) {
  const { id, name, quantity } = line;
  const key = `${id} ${line.variant}`;
  const set = (wanted) => {
    setQuantity(line, wanted);
    if (!wanted) announce(t("removed", { name }));
    render();
  };
  const amount = el("input", {
    type: "number", min: 0, max: MAX_OF_ONE, inputmode: "numeric", value: quantity, "aria-label": t("quantity", { name }),
    "data-key": `count ${key}`, onchange: (event) => set(event.target.valueAsNumber || 0),
  });
  const out = el("button", { type: "button", class: "quiet", "aria-label": t("take out named", { name }), "data-key": `out ${key}`, onclick: () => set(0), text: t("take out") });
  const cost = product ? money(price && price * quantity, product.currency) : t("line gone");
  return el("li", { class: product ? "line" : "line gone" }, product ? mark(product, variant) : el("span"),
    el("div", { class: "line-name" }, el("a", { href: productAddress(id), text: name, lang: product?.language || undefined }), el("small", { text: product?.brand })),
    amount, el("b", { class: "line-cost", text: cost }), out);
}

/** The total by currency, and the button to buy what the store still has. */
function total(all, finish) {
  const found = all.filter(({ product }) => product);
  const priced = Map.groupBy(found.filter(({ price }) => price), ({ product }) => product.currency);
  const sums = Array.from(priced, ([currency, own]) => money(own.reduce((sum, { line, price }) => sum + line.quantity * price, 0), currency));
  return el("div", { class: "sum" }, el("p", {}, el("span", { text: t("total") }), el("b", { text: sums.join(" + ") || "–" })),
    el("button", { type: "button", class: "primary buy", text: t("buy"), onclick: () => finish(found.map(({ line }) => line)) }), el("small", { text: t("buy note") }));
}

function message(text) {
  return el("div", { class: "none" }, el("p", { text }), el("p", {}, el("a", { class: "primary", href: "./", text: t("keep looking") })));
}
