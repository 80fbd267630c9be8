// The basket, stored in this browser; changes are recorded as events if the visitor has consented.

import { browser, note } from "./visitor.js";

const MAX_LINES = 100;
export const MAX_OF_ONE = 99;

/** The lines of the basket: product id, variant id, name and quantity. */
export function lines() {
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
export function setQuantity(line, wanted) {
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
export function buy(bought) {
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
