// Sponsored campaigns: a list with spending, a form, the ledger and counts by day.

import { withParameters } from "./address.js";
import { call } from "./api.js";
import { documentsPart } from "./admin-documents.js";
import { attempt, button, counts, moment, notice, number, opener, switchButton, table, tag } from "./admin-ui.js";
import { el } from "./dom.js";

const TAGS = { running: "in_stock", waiting: "preorder", spent: "out_of_stock" };
const figure = (name, label, props) => [name, label, { type: "number", step: "any", min: 0, ...props }];
const lines = (name, label) => [name, label, { as: "lines", area: true, wide: true, rows: 3 }];

export const sponsoredPart = () => documentsPart({
  kind: "campaigns",
  one: "campaign",
  title: "Campaigns",
  hint: "Products that advertisers pay for, labelled and separate from the hits. No bid can show an irrelevant product.",
  start: {},
  above: ({ details: { enabled } }, { status, refresh }) => [enabled ? null : notice("Sponsored hits are off: shoppers see none, whatever campaigns there are."),
    switchButton("sponsored", !enabled, enabled ? "Switch all sponsored hits off" : "Switch sponsored hits on", status, refresh)],
  columns: ({ details: { states } }) => [
    ["state", ({ id }) => tag(states[id].state, TAGS)],
    ["advertiser", ({ advertiser }) => advertiser],
    ["queries and types", ({ queries = [], types = [] }) => [...queries, ...types].slice(0, 4).join(", ") || "any query"],
    ["bid", ({ bid }) => number(bid, 2), true],
    ["spent today", ({ id }) => number(states[id].spent_today, 2), true],
    ["spent", ({ id }) => number(states[id].spent, 2), true],
    ["budget", ({ budget, daily_budget: daily }) => [budget && number(budget, 2), daily && `${number(daily, 2)} a day`].filter(Boolean).join(", "), true],
  ],
  actions: ({ id: campaign }, part) => opener("Log", campaign, () => attempt(part.status, async () => {
    const { days } = await call(withParameters("/v1/campaigns/report", { campaign }));
    const { entries } = await call(withParameters("/v1/campaigns/log", { campaign, limit: 1000 }));
    part.show(logOf(campaign, days, entries.reverse(), button("Close", part.close, "primary plain")));
  }), " of "),
  lines: [
    [["id", "Id", { maxlength: 32, placeholder: "from the name or a query" }], ["name", "Name"], ["advertiser", "Advertiser", { required: true }]],
    [["products", "Products", { as: "products" }]],
    [lines("queries", "Queries, one a line"), lines("types", "Product types, one a line")],
    [figure("bid", "Bid per click", { required: true }), figure("daily_budget", "Daily budget"), figure("budget", "Total budget"), figure("floor", "Relevance floor", { min: -10 }),
      ["pacing", "Pacing", { options: [["even", "even over the day"], ["fast", "as fast as clicks come"]], value: "even" }]],
    [["starts", "From", { type: "datetime-local" }], ["ends", "Until", { type: "datetime-local" }], ["enabled", "On", { type: "checkbox", value: true }]],
  ],
});

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
