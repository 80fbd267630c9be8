// The basket, stored in this browser; changes are recorded as events if the visitor has consented.

import { note } from "./events.js";
import { picturesOf } from "./picture.js";
import { browser } from "./storage.js";

const MAX_LINES = 100;
export const MAX_OF_ONE = 99;
const listeners = [];

/** The lines of the basket: product data when last seen, variant id and quantity. */
export function lines() {
  const kept = browser.read("basket", []);
  return Array.isArray(kept) ? kept : [];
}

export function count() {
  return lines().reduce((sum, line) => sum + line.quantity, 0);
}

/** Calls `listener` when the basket changes, in this tab or another one. */
export function whenChanged(listener) {
  listeners.push(listener);
}

export function add(product, variant = null) {
  const line = lines().find((each) => isOf(each, product.id, variant?.id || ""));
  if (line) return setQuantity(line, line.quantity + 1);
  if (lines().length >= MAX_LINES) return undefined;
  keep([...lines(), { id: product.id, variant: variant?.id || "", quantity: 1, ...facts(product, variant) }]);
  return note("cart", product.id, { quantity: 1 });
}

/** Sets the quantity of a line; 0 removes it. */
export function setQuantity(line, quantity) {
  const wanted = Math.max(0, Math.min(MAX_OF_ONE, Math.round(quantity) || 0));
  const now = lines().find((each) => isOf(each, line.id, line.variant));
  if (!now || now.quantity === wanted) return;
  const others = lines().map((each) => (isOf(each, line.id, line.variant) ? { ...each, quantity: wanted } : each));
  keep(others.filter((each) => each.quantity));
  const more = wanted - now.quantity;
  note(more > 0 ? "cart" : "removal", line.id, { quantity: Math.abs(more) });
}

/** Updates a line with current product data; null if the product no longer exists. */
export function renew(line, product) {
  const variant = product?.variants?.find((each) => each.id === line.variant) || null;
  const now = product ? { ...facts(product, variant), gone: false } : { gone: true };
  keep(lines().map((each) => (isOf(each, line.id, line.variant) ? { ...each, ...now } : each)));
}

/** Buys all available lines, empties the basket, and returns the bought lines. */
export function buy() {
  const bought = lines().filter((line) => !line.gone);
  // An order has one purchase event per product, summed over variants.
  const many = new Map();
  bought.forEach(({ id, quantity }) => many.set(id, (many.get(id) || 0) + quantity));
  many.forEach((quantity, id) => note("purchase", id, { quantity }));
  keep([]);
  return bought;
}

/** Total by currency. */
export function sums() {
  const found = new Map();
  for (const line of lines()) {
    if (line.price !== null && !line.gone) {
      found.set(line.currency, (found.get(line.currency) || 0) + line.price * line.quantity);
    }
  }
  return found;
}

function facts(product, variant) {
  const { title, brand, currency, category, images, attributes, language } = product;
  const option = variant ? Object.values(variant.options).join(", ") : "";
  const price = variant?.price ?? product.price;
  const image = variant?.image || images[0] || "";
  const number = picturesOf(product).indexOf(image);
  const picture = { images: [image].filter(Boolean), number, attributes: { color: attributes.color ?? attributes.colour } };
  return { title, brand, price, currency, category, option, language, ...picture };
}

function isOf(line, id, variant) {
  return line.id === id && line.variant === variant;
}

function keep(changed) {
  browser.write("basket", changed);
  listeners.forEach((listener) => listener());
}

addEventListener("storage", (event) => event.key === "shelfwise.basket" && listeners.forEach((listener) => listener()));
