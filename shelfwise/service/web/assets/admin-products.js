// One product: the stored data, and a form to change price and availability.

import { call, productPath } from "./api.js";
import { attempt, field, head, moment, place } from "./admin-ui.js";
import { announce } from "./announce.js";
import { el, fill } from "./dom.js";
import { mark } from "./picture.js";

const AVAILABLE = ["", "in_stock", "out_of_stock", "preorder", "backorder"].map((each) => [each, each.replaceAll("_", " ") || "unknown"]);
const SOURCES = { by_rule: "by a rule", by_title: "by its title", by_category: "by its category" };

export function productsPart(given) {
  const id = field("Product id", { name: "id", required: true, maxlength: 1000, value: given, wide: true });
  const found = place();
  const refresh = () => attempt(found, async () => show(found, await call(productPath(id.input.value.trim()))));
  const form = el("form", { class: "line", onsubmit: (event) => (event.preventDefault(), refresh()) }, id.element,
    el("button", { class: "primary", text: "Look up" }));
  if (given) refresh();
  return [...head("Products", "A confirmed change is durable, and takes effect in searches immediately."), form, found];
}

function show(found, { product, types }) {
  const price = field("Price", { type: "number", min: 0, step: "any", value: product.price });
  const stock = field("Availability", { value: product.availability || "" }, AVAILABLE);
  const status = place();
  const change = (event) => {
    event.preventDefault();
    attempt(status, async () => {
      const wanted = { price: Number.isNaN(price.input.valueAsNumber) ? null : price.input.valueAsNumber, availability: stock.input.value || null };
      const values = Object.fromEntries(Object.entries(wanted).filter(([name, value]) => value !== product[name]));
      if (!Object.keys(values).length) return announce("Nothing to change");
      await call(productPath(product.id), { method: "PATCH", body: values });
      announce("Changed");
      return show(found, await call(productPath(product.id)));
    });
  };
  fill(found, el("section", {}, el("h2", { text: product.title }), mark(product),
    el("p", { class: "hint", text: [product.brand, product.category.join(" > "), product.updated && `updated ${moment(product.updated)}`].filter(Boolean).join(" · ") }),
    el("p", { class: "hint", text: typesOf(types) }),
    el("form", { class: "line", onsubmit: change }, price.element, stock.element, el("button", { class: "primary", text: "Change" })), status,
    el("details", { open: true }, el("summary", { text: "Stored product" }), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Stored product" },
      el("pre", { text: JSON.stringify(product, null, 2) })))));
}

function typesOf(types) {
  const named = Object.entries(SOURCES).filter(([name]) => types[name]).map(([name, source]) => `${types[name]} (${source})`);
  return `Type: ${named.join(", ") || "none"}`;
}
