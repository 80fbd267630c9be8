// API keys: the list, creation and withdrawal.

import { call } from "./api.js";
import { form } from "./admin-form.js";
import { attempt, button, editor, head, listPart, moment, notice, number, opener, place, table, tag } from "./admin-ui.js";
import { announce } from "./announce.js";
import { el, fill } from "./dom.js";

const SCOPES = {
  search: "find and show products",
  events: "record what shoppers do",
  server: "record events as this store's own server has logged them: with lists, positions, past times and addresses",
  write: "change products and prices",
  metrics: "read the metrics of the service",
  advertiser: "read the ledger of the advertiser with the name of the key",
  admin: "everything, including this page",
};
const COLUMNS = [
  ["name", (key) => [key.name, key.current ? tag("this page", { "this page": "in_stock" }) : null].filter(Boolean)],
  ["id", ({ id }) => el("code", { text: id })],
  ["scopes", ({ scopes }) => scopes.join(", ")],
  ["only products with", ({ filters }) => filters || "all"],
  ["indexes", ({ indexes }) => indexes.join(", ") || "all"],
  ["requests a minute", (key) => (key.requests_per_minute ? number(key.requests_per_minute) : "default"), true],
  ["created", (key) => moment(key.created)],
  ["expires", endOf],
];

const LINES = [
  [["name", "Name", { required: true, maxlength: 100, placeholder: "web shop" }], ["expires", "Until", { type: "datetime-local" }],
    ["requests_per_minute", "Requests a minute", { type: "number", min: 1, placeholder: "default" }]],
  [["filters", "Only products with", { placeholder: "brand = Bosch", wide: true }]],
  [["scopes", "Scopes", { as: "checks", options: Object.entries(SCOPES).map(([scope, text]) => [scope, `${scope}: ${text}`]), value: ["search", "events"] }]],
];

export function keysPart() {
  const secret = place();
  const part = listPart(async ({ list, below }) => {
    const keys = await call("/v1/keys");
    fill(list, keys.length ? table("Keys", [...COLUMNS, ["", (key) => opener("Withdraw", key.name, () => withdraw(key))]], keys)
      : notice("There are no keys: anyone may search and record events. As soon as one exists, every program needs a key. The store page gets its own, and this page stays open to you."));
    fill(below, editor({ title: "New key", label: "New key", form: form(LINES), send: create, save: "Create the key" }));
  });
  const create = async (body) => {
    const { key, name } = await call("/v1/keys", { method: "POST", body });
    const copy = async () => {
      await navigator.clipboard.writeText(key);
      announce("Copied");
    };
    await part.refresh();
    fill(secret, el("section", { "aria-label": "The new key" }, el("h2", { tabindex: "-1", text: `The key ${name}` }),
      notice("Copy it now and keep it in a safe place. It is shown only once, since the service stores only its hash."), el("code", { class: "secret", tabindex: "0", text: key }),
      el("div", { class: "buttons" }, navigator.clipboard ? button("Copy", copy, "primary") : null, button("Done", () => fill(secret), "primary plain"))));
    secret.querySelector("h2").focus();
  };
  const warning = (key) => (key.of_page ? "The store page gets a new one." : `Programs that use it, or a key narrowed from it, stop working at once.${key.current ? " This page uses it, too." : ""}`);
  const withdraw = (key) => confirm(`Withdraw the key ${key.name}? ${warning(key)}`) && attempt(part.status, async () => {
    await call(`/v1/keys/${encodeURIComponent(key.id)}`, { method: "DELETE" });
    announce(`${key.name} is withdrawn`);
    if (key.current) location.reload();
    else await part.refresh();
  });
  return [...head("Keys", "A key allows a program or a page to use this service within its scopes."), part.status, secret, part.list, part.below];
}

function endOf({ expires }) {
  if (!expires) return "never";
  return new Date(expires) > new Date() ? moment(expires) : el("span", { class: "tag out_of_stock", text: `expired ${moment(expires)}` });
}
