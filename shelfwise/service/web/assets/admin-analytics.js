// Analytics: searches, clicks and purchases in a range of days, compared with the previous days.

import { withParameters } from "./address.js";
import { call } from "./api.js";
import { attempt, button, field, figures, lineForm, listPart, moment, notice, number, percent, table } from "./admin-ui.js";
import { el } from "./dom.js";
import { follow } from "./admin-service.js";

const RANGES = [["Today", 1], ["7 days", 7], ["30 days", 30], ["90 days", 90]];
const DAY_MS = 86_400_000;

export function analyticsPart() {
  const from = field("From", { type: "date", required: true });
  const to = field("To, included", { type: "date", required: true });
  let range = {};
  const show = (part, wanted) => {
    range = wanted;
    return part.load();
  };
  const work = (part, text, task) => button(text, () => attempt(part.status, task));
  const isoOf = (time) => new Date(time).toISOString().slice(0, 10);
  const renew = async (part) => {
    const task = await follow((await call("/v1/tasks", { method: "POST", body: { kind: "refresh" } })).id, part.list);
    if (task.error) throw new Error(task.error);
    await show(part, {});
  };
  return listPart({
    title: "Analytics",
    hint: "Days are in UTC. Sessions of bots are excluded.",
    above: (part) => [lineForm(part.status, () => show(part, { from: from.value(), to: to.value() }), "Show", [
      ...RANGES.map(([name, days]) => work(part, name, () => show(part, { from: isoOf(Date.now() - (days - 1) * DAY_MS), to: isoOf(Date.now()) }))),
      from, to,
    ], { kind: "small" }), work(part, "Count new events", () => renew(part))],
    async load(part) {
      const found = await call("/v1/reports/analytics", { query: range });
      from.input.value = found.first;
      to.input.value = found.last;
      return found.days.some((day) => day.sessions || day.purchases) ? partsOf(found)
        : [notice(`There are no events on these days. The tables cover ${found.tables_first} to ${found.tables_last}; “Count new events” adds later ones.`),
          work(part, "Show the last 30 days of the tables", () => show(part, {}))];
    },
  });
}

function partsOf(found) {
  const { now, before, days, currency } = found;
  const style = currency && { style: "currency", currency, maximumFractionDigits: 0 };
  const money = (value) => (style ? value.toLocaleString("en", style) : number(value, 2));
  const share = (of) => (row) => (row.searches ? of(row) / row.searches : null);
  const short = shortOf(found);
  const shares = [["with a click", ({ clicked, searches }) => percent(clicked / searches), true], ["with a purchase", ({ bought, searches }) => percent(bought / searches), true]];
  const rate = (name) => [share((row) => row[name])(now), share((row) => row[name])(before)];
  const tiles = [
    ["searches", now.searches, before.searches, number], ["without results", ...rate("empty"), percent], ["without clicks", ...rate("unclicked"), percent],
    ["with a click", ...rate("clicked"), percent], ["that led to a purchase", ...rate("bought"), percent],
    ["revenue", now.revenue, before.revenue, money], ["revenue by search", now.search_revenue, before.search_revenue, money], ["sessions", now.sessions, before.sessions, number],
    ["sessions of bots", now.bot_sessions, before.bot_sessions, number],
  ];
  return [
    el("p", { class: "hint", text: `${found.first} to ${found.last}, ${short ? `not compared with ${found.first_before} to ${found.last_before}: events of ${short} are in the tables` : `compared with ${found.first_before} to ${found.last_before}`}. Tables of ${moment(found.made)}. Revenue is at today's prices${currency ? ` in ${currency}` : ""}. Queries and products of fewer than ${found.least_shoppers} shoppers are not named.` }),
    figures(tiles.map(([name, value, earlier, write]) => [name, value === null ? "–" : write(value), short || changeOf(value, earlier, write)])),
    days.length > 1 ? el("div", { class: "charts" },
      chart("Searches a day", "searches", days, [["searches", (row) => row.searches], ["without results", (row) => row.empty], ["without clicks", (row) => row.unclicked]], number),
      chart("Clicks and purchases", "share of the searches", days, [["with a click", share((row) => row.clicked)], ["that led to a purchase", share((row) => row.bought)]], percent),
      chart("Revenue a day", currency || "revenue", days, [["all", (row) => row.revenue], ["by search", (row) => row.search_revenue]], money)) : null,
    el("div", { class: "halves" }, queriesOf("Most searched", found.top, [...(short ? [] : ["before"]), "shoppers", ...shares]),
      queriesOf("Searches without results", found.empty, [["without results", "empty"], "shoppers"]),
      queriesOf("Searches without clicks", found.unclicked, [["without clicks", "unclicked"], "shoppers", shares[0]]),
      short ? null : queriesOf("Rising", found.rising, ["before", "shoppers", shares[0]]),
      queriesOf("Revenue by query", found.earning, [["revenue", ({ revenue }) => money(revenue), true], shares[1], "shoppers"]),
      productsOf(found.products, money)),
  ];
}

/** The days of the range or of the one before it that the tables cover, as "11 of 30 days", if they do not cover both. */
function shortOf({ first, last, first_before: firstBefore, last_before: lastBefore, tables_first: from, tables_last: to }) {
  const days = (start, end) => Math.max(0, Math.round((new Date(end) - new Date(start)) / DAY_MS) + 1);
  const covered = (start, end) => days(start > from ? start : from, end < to ? end : to);
  const all = days(first, last);
  const [now, before] = [covered(first, last), covered(firstBefore, lastBefore)];
  return now < all ? `${now} of ${all} days` : before < all ? `${before} of ${all} days before` : "";
}

function queriesOf(title, rows, columns) {
  const query = ["query", (row) => el("a", { href: withParameters("./", { q: row.query }), text: row.query })];
  return el("section", {}, el("h2", { text: title }), table(title, [query, "searches", ...columns], rows, "None."));
}

function productsOf(rows, money) {
  return el("section", {}, el("h2", { text: "Top products" }), table("Top products", [
    ["product", (row) => el("a", { href: `#products/${encodeURIComponent(row.product_id)}`, text: row.title || row.product_id })],
    "impressions", "clicks", "carts", ["units sold", "units"],
    ["revenue", ({ revenue }) => money(revenue), true],
  ], rows, "None."));
}

function changeOf(value, earlier, write) {
  if (value === null || earlier === null) return "no earlier value";
  if (!earlier) return value ? `${write(earlier)} before` : "as before";
  const change = (value - earlier) / earlier;
  const sign = Math.abs(change) < 0.0005 ? "=" : change > 0 ? "▲" : "▼";
  return `${sign} ${percent(Math.abs(change))} (${write(earlier)} before)`;
}

/** A chart of `series` ([name, of(row)]) over `rows` with their `day`; `write(value)` formats a value. */
function chart(title, unit, rows, series, write) {
  const most = Math.max(...rows.flatMap((row) => series.map(([, of]) => of(row) ?? 0))) || 1;
  const paths = series.map(([, of], line) => el("path", { class: `line line-${line}`, d: pathOf(rows.map(of), most) }));
  return el("section", { class: "chart" }, el("h2", { text: title }), el("p", { class: "keys", "aria-hidden": "true" }, series.map(([name], line) => el("span", { class: `key line-${line}`, text: name }))),
    el("p", { class: "hint", text: `${unit}, up to ${write(most)}` }),
    el("svg", { class: "plot", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": `${title}; the table below has the values` }, paths),
    el("p", { class: "hint ends" }, el("span", { text: dayOf(rows[0]) }), el("span", { text: `${dayOf(rows.at(-1))} (UTC)` })),
    el("details", {}, el("summary", { text: "As a table" }), table(title, [
      ["day", dayOf], ...series.map(([name, of]) => [name, (row) => write(of(row)), true]),
    ], rows)));
}

/** The path through values of successive days in a square of 100 by 100 units, interrupted where there is none. */
function pathOf(values, most) {
  const isValue = (at) => typeof values[at] === "number";
  const pointOf = (value, at) => isValue(at) && `${isValue(at - 1) ? "L" : "M"}${(100 * at) / (values.length - 1)} ${100 - (100 * value) / most}`;
  return values.map(pointOf).filter(Boolean).join("");
}

function dayOf({ day }) {
  return new Date(`${day}T00:00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}
