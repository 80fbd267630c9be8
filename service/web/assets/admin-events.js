// What shoppers did, as the tables say that were last made of events.

import { call } from "./api.js";
import { attempt, button, figures, head, moment, number, percent, place, table } from "./admin-ui.js";
import { announce } from "./announce.js";
import { el, fill } from "./dom.js";

export function eventsPart(paths) {
  const status = place();
  const report = place();
  const renew = "/v1/events/refresh" in paths ? button("Make the tables anew", () => attempt(status, async () => {
    const task = await call("/v1/events/refresh", { method: "POST" });
    announce(`Queued: task ${task.id}`);
  })) : null;
  attempt(status, async () => fill(report, sections(await call("/v1/reports/events"))));
  return [...head("What shoppers did"), el("div", { class: "buttons" }, renew), status, report];
}

function sections(report) {
  const { traffic, funnel, queries, products, fraud } = report;
  return [
    el("p", { class: "hint", text: `Made ${moment(report.made)}, of ${moment(traffic.first)} to ${moment(traffic.last)}. What fewer than ${report.least_shoppers} shoppers did is in no table.` }),
    figures([["sessions", number(traffic.sessions)], ["shoppers", number(traffic.shoppers)], ["sessions of bots", number(traffic.flagged_sessions)],
      ...traffic.kinds.map(({ kind, honest }) => [`${kind}s`, number(honest)])]),
    days(traffic.days),
    funnelOf(funnel),
    section("Queries", table("Queries", [
      ["query", ({ query }) => query],
      ["searches", ({ searches }) => number(searches), true],
      ["shoppers", ({ shoppers }) => number(shoppers), true],
      ["clicked", (row) => percent(row.clicked_share), true],
      ["first click", (row) => number(row.first_click, 1), true],
      ["carts", ({ carts }) => number(carts), true],
      ["purchases", ({ purchases }) => number(purchases), true],
    ], queries.top.slice(0, 25))),
    queries.failing.length ? section("Failing queries", table("Failing queries", [
      ["query", ({ query }) => query],
      ["problem", ({ problem }) => problem],
      ["of its searches", (row) => percent(row.share), true],
      ["searches", ({ searches }) => number(searches), true],
    ], queries.failing)) : null,
    section("Products", table("Products", [
      ["product", (row) => el("a", { href: `#products/${encodeURIComponent(row.product_id)}`, text: row.title || row.product_id })],
      ["shown", ({ impressions }) => number(impressions), true],
      ["clicks", ({ clicks }) => number(clicks), true],
      ["carts", ({ carts }) => number(carts), true],
      ["purchases", ({ purchases }) => number(purchases), true],
    ], products.top.slice(0, 25))),
    fraud.sessions ? section("Bots and click fraud", table("Bots and click fraud", [
      ["why", ({ reason }) => reason],
      ["sessions", ({ sessions }) => number(sessions), true],
      ["clicks", ({ clicks }) => number(clicks), true],
    ], fraud.reasons)) : null,
  ];
}

function section(title, content) {
  return el("section", {}, el("h2", { text: title }), content);
}

function days(rows) {
  if (rows.length < 2) return null;
  const most = Math.max(...rows.map(({ honest }) => honest), 1);
  const label = `Events a day, ${rows[0].day} to ${rows.at(-1).day}, at most ${number(most)}`;
  return el("div", { class: "days", role: "img", "aria-label": label, title: label }, rows.map(({ honest }) => el("i", { "--share": honest / most })));
}

function funnelOf(funnel) {
  const steps = funnel?.searches || [];
  if (!steps.length) return null;
  return section("From search to purchase", table("From search to purchase", [
    ["step", ({ name }) => name],
    ["answers", ({ answers }) => number(answers), true],
    ["of all", (row) => percent(row.answer_share), true],
    ["of the step before", (row) => percent(row.answer_rate), true],
    ["sessions", ({ sessions }) => number(sessions), true],
  ], steps));
}
