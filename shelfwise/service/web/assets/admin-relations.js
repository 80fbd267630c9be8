// Relations of a product, with their evidence, and the store's corrections.

import { call, productPath, withParameters } from "./api.js";
import { attempt, button, field, head, moment, number, place, table } from "./admin-ui.js";
import { announce } from "./announce.js";
import { productPicker, productSearch } from "./admin-product-picker.js";
import { el, fill } from "./dom.js";

const REVERSE = " reverse";
const KINDS = [
  ["complement", "goes with"],
  [`accessory${REVERSE}`, "has the accessory"],
  ["accessory", "is an accessory of"],
  [`fits${REVERSE}`, "is fitted by"],
  ["fits", "fits"],
  [`part_of${REVERSE}`, "contains"],
  ["part_of", "is a part of"],
  ["substitute", "can be replaced by"],
];
const VERBS = new Map(KINDS);
const LAST_CHANGES = 20;
const OF_TYPES = 20;

export function relationsPart(given) {
  const [found, past] = [place(), place()];
  const search = productSearch("Product", (id) => (location.hash = addressOf(id)));
  if (given) attempt(found, () => lookUp(found, past, given));
  else attempt(past, () => showHistory(past));
  return [...head("Relations", "Products that go with a product or are chosen instead of it. Corrections apply immediately, and persist when the relations are refreshed."),
    el("div", { class: "picker" }, search.elements), found, past];
}

async function lookUp(found, past, id) {
  const [{ product }, relations, types] = await Promise.all([call(productPath(id)), known(id), ofTypes(id)]);
  const status = place();
  const change = (path, request, text) => attempt(status, async () => {
    await call(path, request);
    announce(text);
    await lookUp(found, past, id);
    found.querySelector("h2").focus();
  });
  const correct = (kind, others, removed) => {
    const corrections = others.map((other) => correctionOf(kind, id, other, removed));
    return change("/v1/relations", { method: "PUT", body: { corrections } }, removed ? "Removed" : "Added");
  };
  const withdraw = ({ kind, product: one, other }) =>
    change(withParameters("/v1/relations", { kind, product: one, other }), { method: "DELETE" }, "Withdrawn");
  const titles = new Map(Object.entries(relations.titles));
  types.forEach(([each, title]) => titles.set(each.product_id, title));
  const rows = [...relations.relations, ...types.map(([each]) => each)];
  fill(found, el("section", {}, el("h2", { tabindex: "-1", text: product.title }), el("p", { class: "hint", text: id }), status,
    rows.length ? tableOf(rows, titles, (each) => correct(kindOf(each.relation), [each.product_id], true)) : el("p", { text: "No relations are known." })),
  formOf(correct),
  relations.corrections.length ? el("section", {}, el("h2", { text: "Corrections of the store" }), correctionsOf(relations.corrections, id, titles, withdraw)) : null);
  await showHistory(past, id);
}

function known(id) {
  return call(withParameters("/v1/relations", { product: id }));
}

/** Products of related types, which complete the page of a product, with their titles. */
async function ofTypes(id) {
  const { hits } = await call(withParameters(`${productPath(id)}/related`, { size: OF_TYPES, fields: "title" }));
  return hits.filter(({ relation }) => relation.evidence === "types").map(({ product, relation }) => [{ product_id: product.id, relation }, product.title]);
}

function tableOf(rows, titles, remove) {
  return table("Relations", [
    ["relation", ({ relation }) => VERBS.get(kindOf(relation))],
    ["other product", ({ product_id: id }) => linkTo(id, titles.get(id))],
    ["evidence", ({ relation }) => relation.evidence],
    ["shoppers", ({ relation }) => (relation.shoppers ? number(relation.shoppers) : ""), true],
    ["strength", ({ relation }) => number(relation.strength, 2), true],
    ["", (each) => button("Remove", () => remove(each), "small", { "aria-label": `Remove: ${VERBS.get(kindOf(each.relation))} ${titles.get(each.product_id) || each.product_id}` })],
  ], rows);
}

function correctionsOf(corrections, id, titles, withdraw) {
  return table("Corrections of the store", [
    ["relation", ({ kind, product }) => VERBS.get(kind + (product === id || kind === "complement" ? "" : REVERSE))],
    ["other product", ({ product, other }) => (product === id ? linkTo(other, titles.get(other)) : linkTo(product, titles.get(product)))],
    ["", ({ removed }) => el("span", { class: "tag", text: removed ? "removed" : "added" })],
    ["", (each) => button("Withdraw", () => withdraw(each), "small", { "aria-label": `Withdraw: ${lineOf(each)}` })],
  ], corrections);
}

function formOf(correct) {
  const kind = field("The product", { value: "complement" }, KINDS);
  const others = productPicker("Other products");
  const status = place();
  const add = (event) => {
    event.preventDefault();
    if (others.value().length) correct(kind.input.value, others.value(), false);
    else fill(status, el("p", { class: "faults", role: "alert", text: "Find another product first." }));
  };
  return el("section", {}, el("h2", { text: "Add a relation" }),
    el("form", { onsubmit: add }, kind.element, others.element, status, el("button", { class: "primary", text: "Add" })));
}

async function showHistory(past, id) {
  const { changes } = await call(withParameters("/v1/relations/history", { product: id, limit: LAST_CHANGES }));
  fill(past, changes.length ? el("section", {}, el("h2", { text: "History" }), table("History", [
    ["when", ({ time }) => moment(time)],
    ["by", ({ who }) => who],
    ["relation", ({ before, after }) => linkTo((after || before).product, lineOf(after || before))],
    ["", ({ after }) => (!after ? "withdrawn" : after.removed ? "removed" : "added")],
  ], changes)) : null);
}

function addressOf(id) {
  return `#relations/${encodeURIComponent(id)}`;
}

function linkTo(id, title) {
  return el("a", { href: addressOf(id), text: title || id });
}

/** A relation as a key of KINDS, from the product's point of view. */
function kindOf({ kind, reverse }) {
  return reverse ? kind + REVERSE : kind;
}

function correctionOf(verb, id, other, removed) {
  const isReverse = verb.endsWith(REVERSE);
  return { kind: verb.replace(REVERSE, ""), product: isReverse ? other : id, other: isReverse ? id : other, removed };
}

function lineOf({ kind, product, other }) {
  return `${product} ${VERBS.get(kind)} ${other}`;
}
