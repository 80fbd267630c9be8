// Relations of a product, with their evidence, and the store's corrections.

import { call, productPath, withParameters } from "./api.js";
import { announce } from "./announce.js";
import { attempt, field, head, moment, number, opener, place, table, tag } from "./admin-ui.js";
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

export function relationsPart(id) {
  const [found, past] = [place(), place()];
  const search = productSearch("Product", (each) => (location.hash = addressOf(each)));
  if (id) attempt(found, () => lookUp(found, past, id));
  else attempt(past, () => showHistory(past));
  return [...head("Relations", "Products that go with a product or are chosen instead of it. Corrections apply immediately, and persist when the relations are refreshed."),
    el("div", { class: "picker" }, search.elements), found, past];
}

async function lookUp(found, past, id) {
  const related = call(withParameters(`${productPath(id)}/related`, { size: OF_TYPES, fields: "title" }));
  const [{ product }, { documents: corrections, details: { relations, titles } }, { hits }] = await Promise.all([call(productPath(id)), call(withParameters("/v1/relations", { product: id })), related]);
  // Products of related types complete the page of a product.
  const types = hits.filter(({ relation }) => relation.evidence === "types");
  const names = new Map([...Object.entries(titles), ...types.map((hit) => [hit.product.id, hit.product.title])]);
  const rows = [...relations, ...types.map((hit) => ({ product_id: hit.product.id, relation: hit.relation }))];
  const status = place();
  const change = (path, request, text) => attempt(status, async () => {
    await call(path, request);
    announce(text);
    await lookUp(found, past, id);
    found.querySelector("h2").focus();
  });
  const correct = (kind, others, removed) => {
    const made = others.map((other) => correctionOf(kind, id, other, removed));
    return change("/v1/relations", { method: "PUT", body: { documents: made } }, removed ? "Removed" : "Added");
  };
  const withdraw = (each) => change(`/v1/relations/${encodeURIComponent(each.id)}`, { method: "DELETE" }, "Withdrawn");
  const verb = ({ relation }) => VERBS.get(kindOf(relation));
  const own = ({ kind, product: one }) => one === id || kind === "complement";
  fill(found, el("section", {}, el("h2", { tabindex: "-1", text: product.title }), el("p", { class: "hint", text: id }), status,
    rows.length ? table("Relations", [
      ["relation", verb],
      ["other product", (row) => linkTo(row.product_id, names.get(row.product_id))],
      ["evidence", ({ relation }) => relation.evidence],
      ["shoppers", ({ relation }) => (relation.shoppers ? number(relation.shoppers) : ""), true],
      ["strength", ({ relation }) => number(relation.strength, 2), true],
      ["", (row) => opener("Remove", `${verb(row)} ${names.get(row.product_id) || row.product_id}`, () => correct(kindOf(row.relation), [row.product_id], true), ": ")],
    ], rows) : el("p", { text: "No relations are known." })),
  addForm(correct),
  corrections.length ? el("section", {}, el("h2", { text: "Corrections of the store" }), table("Corrections of the store", [
    ["relation", (each) => VERBS.get(each.kind + (own(each) ? "" : REVERSE))],
    ["other product", ({ product: one, other }) => (one === id ? linkTo(other, names.get(other)) : linkTo(one, names.get(one)))],
    ["", ({ removed }) => tag(removed ? "removed" : "added")],
    ["", (each) => opener("Withdraw", lineOf(each), () => withdraw(each), ": ")],
  ], corrections)) : null);
  await showHistory(past, id);
}

function addForm(correct) {
  const kind = field("The product", { value: "complement" }, KINDS);
  const others = productPicker("Other products");
  const status = place();
  const add = (event) => {
    event.preventDefault();
    if (others.value().length) correct(kind.value(), others.value(), false);
    else fill(status, el("p", { class: "faults", role: "alert", text: "Find another product first." }));
  };
  return el("section", {}, el("h2", { text: "Add a relation" }),
    el("form", { onsubmit: add }, kind.element, others.element, status, el("button", { class: "primary", text: "Add" })));
}

async function showHistory(past, id) {
  const { changes } = await call(withParameters("/v1/relations/history", { id, limit: LAST_CHANGES }));
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
