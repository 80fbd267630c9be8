// A search with explanations: scores of each hit by stage, and contributions to its score.

import { call, withParameters } from "./api.js";
import { attempt, field, head, number, percent, place } from "./admin-ui.js";
import { el, fill } from "./dom.js";
import { mark } from "./picture.js";

const LEAST = 0.005;

export function searchPart() {
  const query = field("Query", { name: "q", type: "search", maxlength: 1000, wide: true });
  const filters = field("Filter", { name: "filters", placeholder: "price < 100 AND brand = Bosch", wide: true });
  const size = field("Hits", { type: "number", min: 1, max: 100, value: 10 });
  const found = place();
  const ask = async (event) => {
    event.preventDefault();
    await attempt(found, async () => {
      const parameters = { q: query.input.value, filters: filters.input.value, size: size.input.value, explain: "true" };
      show(found, await call(withParameters("/v1/search", parameters)));
    });
  };
  const form = el("form", { class: "line", role: "search", onsubmit: ask }, query.element, filters.element, size.element,
    el("button", { class: "primary", text: "Search" }));
  return [...head("Search, explained", "The scores of each hit by words (bm25), by vectors (dense), merged, and by the ranker."), form, found];
}

function show(found, answer) {
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

