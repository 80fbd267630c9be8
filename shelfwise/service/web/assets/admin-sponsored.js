// Sponsored campaigns: a list with spending, an editor, the ledger and counts by day.

import { call, withParameters } from "./api.js";
import { attempt, button, check, field, head, historyOf, listPart, moment, momentField, number, place, showFault, sure, switchButton, table } from "./admin-ui.js";
import { productPicker } from "./admin-product-picker.js";
import { el, fill } from "./dom.js";

const TAGS = { running: "tag in_stock", waiting: "tag preorder", spent: "tag out_of_stock" };
const LISTS = ["queries", "types"];

export function sponsoredPart() {
  const { status, list, below, show, close, done } = listPart(() => refresh());
  const past = place();
  const refresh = () => attempt(status, async () => {
    const { enabled, campaigns } = await call("/v1/campaigns");
    fill(list, enabled ? null : [el("p", { class: "notice", text: "Sponsored hits are off: shoppers see none, whatever campaigns there are." }), switchButton("sponsored", true, "Switch sponsored hits on", status, refresh)],
      campaigns.length ? tableOf(campaigns) : el("p", { text: "There are no campaigns yet." }),
      enabled ? switchButton("sponsored", false, "Switch all sponsored hits off", status, refresh) : null);
    const { changes } = await call("/v1/campaigns/history?limit=20");
    fill(past, changes.length ? historyOf(changes, columns, question, restore) : null);
  });
  const tableOf = (campaigns) => table("Campaigns", [
    ["campaign", ({ campaign, fault }) => el("div", {}, el("b", { text: campaign.id }), campaign.name ? ` ${campaign.name}` : null, fault ? el("p", { class: "faults", text: fault }) : null)],
    ["state", ({ state }) => el("span", { class: TAGS[state] || "tag", text: state })],
    ["advertiser", ({ campaign }) => campaign.advertiser],
    ["queries and types", ({ campaign: { queries = [], types = [] } }) => [...queries, ...types].slice(0, 4).join(", ") || "any query"],
    ["bid", ({ campaign }) => number(campaign.bid, 2), true],
    ["spent today", (each) => number(each.spent_today, 2), true],
    ["spent", (each) => number(each.spent, 2), true],
    ["budget", ({ campaign }) => [campaign.budget && number(campaign.budget, 2), campaign.daily_budget && `${number(campaign.daily_budget, 2)} a day`].filter(Boolean).join(", "), true],
    ["", buttons],
  ], campaigns);
  const buttons = ({ campaign }) => {
    const { id } = campaign;
    const isOn = campaign.enabled !== false;
    const put = (changed, text) => attempt(status, async () => {
      await call("/v1/campaigns", { method: "PUT", body: { campaigns: [changed] } });
      await done(text);
    });
    return el("div", { class: "buttons" },
      button("Edit", () => edit(campaign), "small", { "aria-label": `Edit ${id}` }),
      button("Log", () => look(id), "small", { "aria-label": `Log of ${id}` }),
      button(isOn ? "Switch off" : "Switch on", () => put({ ...campaign, enabled: !isOn }, `${id} is ${isOn ? "off" : "on"}`), "small", { "aria-label": `Switch ${isOn ? "off" : "on"} ${id}` }),
      button("Remove", () => sure(`Remove ${id}? Its charges stay in the ledger.`) && attempt(status, async () => {
        await call(`/v1/campaigns/${encodeURIComponent(id)}`, { method: "DELETE" });
        await done(`${id} was removed`);
      }), "small", { "aria-label": `Remove ${id}` }));
  };
  const columns = [["campaign", ({ id }) => id], ["", ({ before, after }) => (!before ? "added" : !after ? "removed" : "changed")]];
  const restore = (revision) => attempt(status, async () => {
    await call("/v1/campaigns/restore", { method: "POST", body: { revision } });
    await done(`Campaigns of revision ${revision} are restored`);
  });
  const question = (revision) => `Restore all campaigns of revision ${revision}? Charges are kept.`;
  const edit = (campaign) => show(editorOf(campaign, async (text) => {
    close();
    await done(text);
  }, close));
  const look = (campaign) => attempt(status, async () => {
    const { days } = await call(withParameters("/v1/campaigns/report", { campaign }));
    const { entries } = await call(withParameters("/v1/campaigns/log", { campaign, limit: 1000 }));
    show(logOf(campaign, days, entries.reverse(), button("Close", close, "primary plain")));
  });
  refresh();
  return [...head("Sponsored", "Products that advertisers pay for, labelled and separate from the hits. No bid can show an irrelevant product."),
    el("div", { class: "buttons" }, button("New campaign", () => edit({ id: "", products: [] }), "primary")), status, list, below, past];
}

function logOf(campaign, days, entries, close) {
  return el("section", { "aria-label": "Log" }, el("h2", { tabindex: "-1", text: `Log of ${campaign}` }),
    days.length ? table("By day", [
      ["day", ({ day }) => day],
      ["impressions", ({ shown }) => number(shown), true],
      ["clicks", ({ clicks }) => number(clicks), true],
      ["charged", ({ charged }) => number(charged), true],
      ["amount", ({ amount }) => number(amount, 2), true],
      ["not charged", ({ uncharged }) => Object.entries(uncharged).map(([reason, count]) => `${reason} ${number(count)}`).join(", ")],
    ], days) : el("p", { text: "No sponsored hits were shown in the last 30 days." }),
    entries.length ? table("Clicks", [
      ["entry", ({ id }) => number(id), true],
      ["when", ({ time }) => moment(time)],
      ["product", ({ product }) => product],
      ["place", (each) => number(each.place), true],
      ["price", ({ price }) => number(price, 4), true],
      ["amount", ({ amount }) => number(amount, 4), true],
      ["reason", ({ reason, refunds }) => (refunds ? `${reason}: refund of ${refunds}` : reason)],
    ], entries) : null, close);
}

function editorOf(campaign, saved, close) {
  const status = place();
  const text = (name, label, props = {}) => [name, field(label, { value: campaign[name] ?? "", ...props })];
  const lines = (name, label) => [name, field(label, { area: true, wide: true, rows: 3, value: (campaign[name] || []).join("\n") })];
  const figure = (name, label, props = {}) => text(name, label, { type: "number", step: "any", min: 0, ...props });
  const fields = Object.fromEntries([
    text("id", "Id", { maxlength: 32, placeholder: "from the name or a query", readonly: Boolean(campaign.id) }), text("advertiser", "Advertiser", { required: true }), text("name", "Name"),
    ["products", productPicker("Products", campaign.products)], lines("queries", "Queries, one a line"), lines("types", "Product types, one a line"),
    figure("bid", "Bid per click", { required: true }), figure("daily_budget", "Daily budget"), figure("budget", "Total budget"),
    figure("floor", "Relevance floor", { min: -10 }),
    ["pacing", field("Pacing", { value: campaign.pacing || "even" }, [["even", "even over the day"], ["fast", "as fast as clicks come"]])],
  ]);
  const starts = momentField("From", campaign.starts);
  const ends = momentField("Until", campaign.ends);
  const enabled = check("On", campaign.enabled !== false);
  const save = (event) => {
    event.preventDefault();
    Object.values(fields).forEach((each) => showFault(each, ""));
    return attempt(status, async () => {
      const given = Object.entries(fields).map(([name, part]) => [name, part.value ? part.value() : valueOf(name, part.input)]).filter(([, value]) => value !== undefined);
      const made = { ...Object.fromEntries(given), starts: starts.value(), ends: ends.value(), enabled: enabled.input.checked, product_floors: campaign.product_floors };
      try {
        await call("/v1/campaigns", { method: "PUT", body: { campaigns: [made] } });
      } catch (error) {
        if (!fields[error.field]) throw error;
        showFault(fields[error.field], error.message);
        fields[error.field].input.focus();
        return;
      }
      await saved("The campaign is saved");
    });
  };
  const line = (...names) => el("div", { class: "line" }, names.map((name) => fields[name].element));
  const title = campaign.id ? `Campaign ${campaign.id}` : "New campaign";
  return el("section", { "aria-label": "Editor" }, el("h2", { tabindex: "-1", text: title }),
    el("form", { class: "rule", onsubmit: save, novalidate: true }, line("id", "name", "advertiser"), fields.products.element, line("queries", "types"), line("bid", "daily_budget", "budget", "floor", "pacing"),
      el("div", { class: "line" }, starts.element, ends.element, enabled.element), status,
      el("div", { class: "buttons" }, el("button", { class: "primary", text: "Save" }), button("Close", close, "primary plain"))));
}

/** The value of a field; undefined if it is empty. */
function valueOf(name, input) {
  const text = input.value.trim();
  if (LISTS.includes(name)) return text.split("\n").map((each) => each.trim()).filter(Boolean);
  if (!text) return undefined;
  return input.type === "number" ? Number(text) : text;
}
