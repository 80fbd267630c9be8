// Sponsored campaigns: a list with spending, an editor, the ledger and counts by day.

import { call, withParameters } from "./api.js";
import { attempt, button, check, counts, field, formOf, head, listPart, moment, momentField, notice, number, opener, switchButton, table, tag } from "./admin-ui.js";
import { changeOf } from "./admin-rules.js";
import { productPicker } from "./admin-product-picker.js";
import { el, fill } from "./dom.js";

const TAGS = { running: "in_stock", waiting: "preorder", spent: "out_of_stock" };

export function sponsoredPart() {
  const part = listPart(async ({ list, status, refresh, showPast }) => {
    const { documents, faults, details: { enabled, states } } = await call("/v1/campaigns");
    const campaigns = documents.map((campaign) => ({ campaign, fault: faults[campaign.id], ...states[campaign.id] }));
    fill(list, enabled ? null : [notice("Sponsored hits are off: shoppers see none, whatever campaigns there are."), switchButton("sponsored", true, "Switch sponsored hits on", status, refresh)],
      campaigns.length ? table("Campaigns", columns, campaigns) : el("p", { text: "There are no campaigns yet." }),
      enabled ? switchButton("sponsored", false, "Switch all sponsored hits off", status, refresh) : null);
    await showPast("campaigns", [["campaign", ({ id }) => id], ["", changeOf]], "All campaigns");
  });
  const put = (campaign) => ["/v1/campaigns", "PUT", { documents: [campaign] }];
  const columns = [
    ["campaign", ({ campaign, fault }) => el("div", {}, el("b", { text: campaign.id }), campaign.name ? ` ${campaign.name}` : null, fault ? el("p", { class: "faults", text: fault }) : null)],
    ["state", ({ state }) => tag(state, TAGS)],
    ["advertiser", ({ campaign }) => campaign.advertiser],
    ["queries and types", ({ campaign: { queries = [], types = [] } }) => [...queries, ...types].slice(0, 4).join(", ") || "any query"],
    ["bid", ({ campaign }) => number(campaign.bid, 2), true],
    ["spent today", (each) => number(each.spent_today, 2), true],
    ["spent", (each) => number(each.spent, 2), true],
    ["budget", ({ campaign }) => [campaign.budget && number(campaign.budget, 2), campaign.daily_budget && `${number(campaign.daily_budget, 2)} a day`].filter(Boolean).join(", "), true],
    ["", ({ campaign }) => {
      const { id } = campaign;
      const isOff = campaign.enabled === false;
      return el("div", { class: "buttons" }, opener("Edit", id, () => edit(campaign)), opener("Log", id, () => look(id), " of "),
        part.act(isOff ? "Switch on" : "Switch off", id, put({ ...campaign, enabled: isOff }), `${id} is ${isOff ? "on" : "off"}`),
        part.act("Remove", id, [`/v1/campaigns/${encodeURIComponent(id)}`, "DELETE"], `${id} was removed`, `Remove ${id}? Its charges stay in the ledger.`));
    }],
  ];
  const edit = (campaign) => part.edit(campaign.id ? `Campaign ${campaign.id}` : "New campaign", campaignForm(campaign), (changed) => {
    const [path, method, body] = put({ ...changed, product_floors: campaign.product_floors });
    return call(path, { method, body });
  }, "The campaign is saved");
  const look = (campaign) => attempt(part.status, async () => {
    const { days } = await call(withParameters("/v1/campaigns/report", { campaign }));
    const { entries } = await call(withParameters("/v1/campaigns/log", { campaign, limit: 1000 }));
    part.show(logOf(campaign, days, entries.reverse(), button("Close", part.close, "primary plain")));
  });
  return [...head("Sponsored", "Products that advertisers pay for, labelled and separate from the hits. No bid can show an irrelevant product."),
    el("div", { class: "buttons" }, button("New campaign", () => edit({ id: "", products: [] }), "primary")), part.status, part.list, part.below, part.past];
}

function logOf(campaign, days, entries, close) {
  return el("section", { "aria-label": "Log" }, el("h2", { tabindex: "-1", text: `Log of ${campaign}` }),
    days.length ? table("By day", [
      ["day", ({ day }) => day],
      ...counts(["impressions", "shown"], "clicks", "charged"),
      ["amount", ({ amount }) => number(amount, 2), true],
      ["not charged", ({ uncharged }) => Object.entries(uncharged).map(([reason, count]) => `${reason} ${number(count)}`).join(", ")],
    ], days) : el("p", { text: "No sponsored hits were shown in the last 30 days." }),
    entries.length ? table("Clicks", [
      ...counts(["entry", "id"]),
      ["when", ({ time }) => moment(time)],
      ["product", ({ product }) => product],
      ...counts("place"),
      ["price", ({ price }) => number(price, 4), true],
      ["amount", ({ amount }) => number(amount, 4), true],
      ["reason", ({ reason, refunds }) => (refunds ? `${reason}: refund of ${refunds}` : reason)],
    ], entries) : null, close);
}

function campaignForm(campaign) {
  const text = (name, label, props = {}) => field(label, { value: campaign[name], ...props });
  const lines = (name, label) => text(name, label, { area: true, wide: true, rows: 3, list: "\n" });
  const figure = (name, label, props = {}) => text(name, label, { type: "number", step: "any", min: 0, ...props });
  return formOf({
    id: text("id", "Id", { maxlength: 32, placeholder: "from the name or a query", readonly: Boolean(campaign.id) }),
    name: text("name", "Name"),
    advertiser: text("advertiser", "Advertiser", { required: true }),
    products: productPicker("Products", campaign.products),
    queries: lines("queries", "Queries, one a line"),
    types: lines("types", "Product types, one a line"),
    bid: figure("bid", "Bid per click", { required: true }),
    daily_budget: figure("daily_budget", "Daily budget"),
    budget: figure("budget", "Total budget"),
    floor: figure("floor", "Relevance floor", { min: -10 }),
    pacing: field("Pacing", { value: campaign.pacing || "even" }, [["even", "even over the day"], ["fast", "as fast as clicks come"]]),
    starts: momentField("From", campaign.starts),
    ends: momentField("Until", campaign.ends),
    enabled: check("On", campaign.enabled !== false),
  }, [["id", "name", "advertiser"], ["products"], ["queries", "types"], ["bid", "daily_budget", "budget", "floor", "pacing"], ["starts", "ends", "enabled"]]);
}
