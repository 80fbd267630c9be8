// A search with explanations, and one product with a form to change its price and availability.

import { call, productPath } from "./api.js";
import { attempt, field, head, lineForm, moment, number, percent } from "./admin-ui.js";
import { announce, el, fill } from "./dom.js";
import { mark } from "./picture.js";

const LEAST = 0.005;
const AVAILABLE = [[null, "unknown"], ...["in_stock", "out_of_stock", "preorder", "backorder"].map((each) => [each, each.replaceAll("_", " ")])];
const SOURCES = { by_rule: "by a rule", by_title: "by its title", by_category: "by its category" };

export function searchPart() {
  const query = field("Query", { name: "q", type: "search", maxlength: 1000, wide: true });
  const filters = field("Filter", { name: "filters", placeholder: "price < 100 AND brand = Bosch", wide: true });
  const size = field("Hits", { type: "number", min: 1, max: 100, value: 10 });
  const found = el("div");
  const ask = async () => showHits(found, await call("/v1/search", { query: { q: query.value(), filters: filters.value(), size: size.value(), explain: "true" } }));
  return [head("Search, explained", "The scores of each hit by words (bm25), by vectors (dense), merged, and by the ranker."),
    lineForm(found, ask, "Search", [query, filters, size], { role: "search" }), found];
}

function showHits(found, answer) {
  const parts = [`${number(answer.total)} products in ${number(answer.took_ms, 1)} ms`];
  if (answer.fit !== null) parts.push(`probability of relevance of the best hit: ${percent(answer.fit)}`);
  if (answer.suggestion) parts.push(answer.corrected ? `searched for “${answer.suggestion}”` : `offers “${answer.suggestion}”`);
  if (answer.nothing_fits) parts.push("no product fits the query");
  if (answer.doubtful) parts.push("no product has all words of the query");
  if (answer.degraded.length) parts.push(`failed: ${answer.degraded.join(", ")}`);
  if (answer.rules?.length) parts.push(`rules: ${answer.rules.join(", ")}`);
  if (answer.redirect) parts.push(`redirects to ${answer.redirect}`);
  fill(found, el("p", { role: "status", text: parts.join("; ") }),
    el("ol", { class: "explained" }, answer.hits.map((hit, index) => explained(hit, index + 1))));
}

function explained(hit, at) {
  const { product } = hit;
  const reasons = Object.entries(hit.stages).map(([stage, given]) =>
    el("span", { class: "tag", text: `${stage} ${given.score.toFixed(3)}${given.rank ? ` · #${given.rank}` : ""}` }));
  if (hit.identifier) reasons.unshift(el("span", { class: "tag in_stock", text: `exact identifier ${hit.identifier}` }));
  if (hit.rule) reasons.unshift(el("span", { class: "tag preorder", text: `rule ${hit.rule}` }));
  if (hit.product_type) reasons.push(el("span", { class: "tag", text: `type ${hit.product_type}` }));
  return el("li", {}, el("span", { class: "place", text: at }), mark(product),
    el("div", {}, el("h2", {}, el("a", { href: `#products/${encodeURIComponent(product.id)}`, text: product.title })),
      el("p", { class: "hint", text: [product.id, product.brand, product.category.join(" > ")].filter(Boolean).join(" · ") }),
      el("div", { class: "stages" }, reasons), hit.explanation ? contributions(hit.explanation) : null));
}

function contributions({ contributions: parts, matches }) {
  const strong = parts.filter((part) => Math.abs(part.contribution) >= LEAST);
  const most = Math.max(...strong.map((part) => Math.abs(part.contribution)), LEAST);
  const rows = strong.map((part) => {
    const isMinus = part.contribution < 0;
    return [el("dt", { text: part.name }), el("dd", { class: "sum", text: `${isMinus ? "−" : "+"}${Math.abs(part.contribution).toFixed(2)}` }),
      el("dd", { class: isMinus ? "bar-of minus" : "bar-of", "--share": Math.abs(part.contribution) / most }, el("i")),
      el("dd", { class: "value", text: part.value })];
  });
  const words = matches.map((match) => `${match.query_word} ${match.exact ? "=" : "≈"} ${match.product_word} (${match.similarity.toFixed(2)})`);
  return [el("dl", { class: "bars" }, rows), words.length ? el("p", { class: "hint", text: `Matching words: ${words.join(", ")}` }) : null];
}

export function productsPart(given) {
  const id = field("Product id", { name: "id", required: true, maxlength: 1000, value: given, wide: true });
  const found = el("div");
  const lookUp = async () => showProduct(found, await call(productPath(id.value())));
  if (given) attempt(found, lookUp);
  return [head("Products", "A confirmed change is durable, and takes effect in searches immediately."), lineForm(found, lookUp, "Look up", [id]), found];
}

function showProduct(found, { product, types }) {
  const price = field("Price", { type: "number", min: 0, step: "any", value: product.price });
  const stock = field("Availability", { value: product.availability, options: AVAILABLE });
  const status = el("div");
  const named = Object.entries(SOURCES).filter(([name]) => types[name]).map(([name, source]) => `${types[name]} (${source})`);
  const change = async () => {
    const wanted = { price: price.value() ?? null, availability: stock.value() };
    const values = Object.fromEntries(Object.entries(wanted).filter(([name, value]) => value !== product[name]));
    if (!Object.keys(values).length) return announce("Nothing to change");
    await call(productPath(product.id), { method: "PATCH", body: values });
    announce("Changed");
    return showProduct(found, await call(productPath(product.id)));
  };
  fill(found, el("section", {}, el("h2", { text: product.title }), mark(product),
    el("p", { class: "hint", text: [product.brand, product.category.join(" > "), product.updated && `updated ${moment(product.updated)}`].filter(Boolean).join(" · ") }),
    el("p", { class: "hint", text: `Type: ${named.join(", ") || "none"}` }),
    lineForm(status, change, "Change", [price, stock]), status,
    el("details", { open: true }, el("summary", { text: "Stored product" }), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Stored product" },
      el("pre", { text: JSON.stringify(product, null, 2) })))));
}
