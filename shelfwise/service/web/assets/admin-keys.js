// API keys: the list, creation and withdrawal.

import { call } from "./api.js";
import { attempt, button, check, field, head, moment, momentField, number, place, showFault, sure, table } from "./admin-ui.js";
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

export function keysPart() {
  const status = place();
  const list = place();
  const made = place();
  const editor = place();
  const refresh = () => attempt(status, async () => {
    const keys = await call("/v1/keys");
    fill(list, keys.length ? tableOf(keys) : el("p", { class: "notice", text: "There are no keys: anyone may search and record events. As soon as one exists, every program needs a key. The store page gets its own, and this page stays open to you." }));
    fill(editor, formOf(created));
  });
  const created = async (answer) => {
    const text = el("code", { class: "secret", tabindex: "0", text: answer.key });
    const copy = async () => {
      await navigator.clipboard.writeText(answer.key);
      announce("Copied");
    };
    await refresh();
    fill(made, el("section", { "aria-label": "The new key" }, el("h2", { tabindex: "-1", text: `The key ${answer.name}` }),
      el("p", { class: "notice", text: "Copy it now and keep it in a safe place. It is shown only once, since the service stores only its hash." }), text,
      el("div", { class: "buttons" }, navigator.clipboard ? button("Copy", copy, "primary") : null, button("Done", () => fill(made), "primary plain"))));
    made.querySelector("h2").focus();
  };
  const warning = (key) => (key.of_page ? "The store page gets a new one." : `Programs that use it, or a key narrowed from it, stop working at once.${key.current ? " This page uses it, too." : ""}`);
  const withdraw = (key) => sure(`Withdraw the key ${key.name}? ${warning(key)}`)
    && attempt(status, async () => {
      await call(`/v1/keys/${encodeURIComponent(key.id)}`, { method: "DELETE" });
      announce(`${key.name} is withdrawn`);
      if (key.current) location.reload();
      else await refresh();
    });
  const tableOf = (keys) => table("Keys", [
    ["name", (key) => [key.name, key.current ? el("span", { class: "tag in_stock", text: "this page" }) : null].filter(Boolean)],
    ["id", ({ id }) => el("code", { text: id })],
    ["scopes", ({ rights, scopes }) => (rights.length ? rights : scopes).join(", ")],
    ["only products with", ({ filters }) => filters || "all"],
    ["indexes", ({ indexes }) => indexes.join(", ") || "all"],
    ["requests a minute", (key) => (key.requests_per_minute ? number(key.requests_per_minute) : "default"), true],
    ["created", (key) => moment(key.created)],
    ["expires", endOf],
    ["", (key) => button("Withdraw", () => withdraw(key), "small", { "aria-label": `Withdraw ${key.name}` })],
  ], keys);
  refresh();
  return [...head("Keys", "A key allows a program or a page to use this service within its scopes."), status, made, list, editor];
}

function endOf({ expires }) {
  if (!expires) return "never";
  return new Date(expires) > new Date() ? moment(expires) : el("span", { class: "tag out_of_stock", text: `expired ${moment(expires)}` });
}

function formOf(created) {
  const status = place();
  const fields = {
    name: field("Name", { required: true, maxlength: 100, placeholder: "web shop" }),
    expires: momentField("Until"),
    requests_per_minute: field("Requests a minute", { type: "number", min: 1, placeholder: "default" }),
    filters: field("Only products with", { placeholder: "brand = Bosch", wide: true }),
  };
  const scopes = Object.entries(SCOPES).map(([scope, text]) => [scope, check(`${scope}: ${text}`, ["search", "events"].includes(scope))]);
  const group = el("fieldset", { class: "action scopes" }, el("legend", { text: "Scopes" }), scopes.map(([, { element }]) => element));
  fields.scopes = { input: scopes[0][1].input, element: group };
  const save = (event) => {
    event.preventDefault();
    Object.values(fields).forEach((each) => showFault(each, ""));
    return attempt(status, async () => {
      const { name, expires, filters, requests_per_minute: rate } = fields;
      const body = { name: name.input.value.trim(), scopes: scopes.filter(([, { input }]) => input.checked).map(([scope]) => scope), filters: filters.input.value.trim(), expires: expires.value(), requests_per_minute: rate.input.value ? Number(rate.input.value) : undefined };
      try {
        await created(await call("/v1/keys", { method: "POST", body }));
      } catch (error) {
        // For a filter on an unknown field, the error names that field, not "filters".
        const shown = fields[error.field] || (error.code === "unknown_field" ? fields.filters : null);
        if (!shown) throw error;
        showFault(shown, error.message);
        shown.input.focus();
      }
    });
  };
  return el("section", { "aria-label": "New key" }, el("h2", { text: "New key" }),
    el("form", { class: "rule", onsubmit: save, novalidate: true }, el("div", { class: "line" }, fields.name.element, fields.expires.element, fields.requests_per_minute.element),
      fields.filters.element, group, status, el("div", { class: "buttons" }, el("button", { class: "primary", text: "Create the key" }))));
}
