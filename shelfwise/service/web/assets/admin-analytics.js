// Analytics: searches, clicks and purchases in a range of days, compared with the previous days.

import { withParameters } from "./address.js";
import { call } from "./api.js";
import { attempt, button, counts, field, head, lineForm, moment, notice, number, percent, place, table } from "./admin-ui.js";
import { el, fill } from "./dom.js";
import { follow } from "./admin-service.js";

const RANGES = [["Today", 1], ["7 days", 7], ["30 days", 30], ["90 days", 90]];
const DAY_MS = 86_400_000;
const HEIGHT = 230;
const LEFT = 64;
const RIGHT = 14;
const TOP = 26;
const BOTTOM = 46;
const TICKS = 4;
const DAY_PX = 84;

export function analyticsPart() {
  const status = place();
  const content = place();
  const from = field("From", { type: "date", required: true });
  const to = field("To, included", { type: "date", required: true });
  const show = (range = {}) => attempt(status, async () => {
    const found = await call(withParameters("/v1/reports/analytics", range));
    from.input.value = found.first;
    to.input.value = found.last;
    fill(content, found.days.some((day) => day.sessions || day.purchases) ? partsOf(found) : emptyOf(found, () => show()));
  });
  const back = (days) => show({ from: isoOf(Date.now() - (days - 1) * DAY_MS), to: isoOf(Date.now()) });
  const renew = button("Count new events", () => attempt(status, async () => {
    const task = await follow((await call("/v1/tasks", { method: "POST", body: { kind: "refresh" } })).id, content);
    if (task.error) throw new Error(task.error);
    await show();
  }));
  show();
  const ranges = RANGES.map(([name, days]) => button(name, () => back(days)));
  const own = lineForm(status, () => show({ from: from.value(), to: to.value() }), "Show", [...ranges, from, to], { kind: "small" });
  own.append(renew);
  return [...head("Analytics", "Days are in UTC. Sessions of bots are excluded."), own, status, content];
}

function isoOf(time) {
  return new Date(time).toISOString().slice(0, 10);
}

function emptyOf({ tables_first: first, tables_last: last }, showAll) {
  return [notice(`There are no events on these days. The tables cover ${first} to ${last}; “Count new events” adds later ones.`),
    el("div", { class: "buttons" }, button("Show the last 30 days of the tables", showAll))];
}

function partsOf(found) {
  const { now, before, days, currency } = found;
  const money = moneyOf(currency);
  const share = (of) => (row) => (row.searches ? of(row) / row.searches : null);
  const short = shortOf(found);
  const named = (...names) => names.filter((name) => name !== "before" || !short);
  const rate = (name) => [share((row) => row[name])(now), share((row) => row[name])(before)];
  const tiles = [
    ["searches", now.searches, before.searches, number], ["without results", ...rate("empty"), percent], ["without clicks", ...rate("unclicked"), percent],
    ["with a click", ...rate("clicked"), percent], ["that led to a purchase", ...rate("bought"), percent],
    ["revenue", now.revenue, before.revenue, money], ["revenue by search", now.search_revenue, before.search_revenue, money], ["sessions", now.sessions, before.sessions, number],
    ["sessions of bots", now.bot_sessions, before.bot_sessions, number],
  ];
  return [
    el("p", { class: "hint", text: `${found.first} to ${found.last}, ${short ? `not compared with ${found.first_before} to ${found.last_before}: events of ${short} are in the tables` : `compared with ${found.first_before} to ${found.last_before}`}. Tables of ${moment(found.made)}. Revenue is at today's prices${currency ? ` in ${currency}` : ""}. Queries and products of fewer than ${found.least_shoppers} shoppers are not named.` }),
    el("div", { class: "tiles" }, tiles.map(([name, value, earlier, write]) => el("div", { class: "figure" }, el("span", { text: name }), el("b", { text: value === null ? "–" : write(value) }), el("span", { text: short || changeOf(value, earlier, write) })))),
    days.length > 1 ? el("div", { class: "charts" },
      chart("Searches a day", "searches", days, [["searches", (row) => row.searches], ["without results", (row) => row.empty], ["without clicks", (row) => row.unclicked]], number),
      chart("Clicks and purchases", "share of the searches", days, [["with a click", share((row) => row.clicked)], ["that led to a purchase", share((row) => row.bought)]], percent),
      chart("Revenue a day", currency || "revenue", days, [["all", (row) => row.revenue], ["by search", (row) => row.search_revenue]], money)) : null,
    el("div", { class: "halves" }, queriesOf("Most searched", found.top, named("before", "shoppers", "clicked", "bought"), money),
      queriesOf("Searches without results", found.empty, ["empty", "shoppers"], money),
      queriesOf("Searches without clicks", found.unclicked, ["unclicked", "shoppers", "clicked"], money),
      short ? null : queriesOf("Rising", found.rising, ["before", "shoppers", "clicked"], money),
      queriesOf("Revenue by query", found.earning, ["revenue", "bought", "shoppers"], money),
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

const [before, shoppers, empty, unclicked] = counts("before", "shoppers", ["without results", "empty"], ["without clicks", "unclicked"]);
const COLUMNS = {
  before,
  shoppers,
  empty,
  unclicked,
  clicked: ["with a click", ({ clicked, searches }) => percent(clicked / searches), true],
  bought: ["with a purchase", ({ bought, searches }) => percent(bought / searches), true],
};

function queriesOf(title, rows, names, money) {
  const columns = { ...COLUMNS, revenue: ["revenue", ({ revenue }) => money(revenue), true] };
  return el("section", {}, el("h2", { text: title }), listOf(title, [
    ["query", ({ query }) => el("a", { href: withParameters("/", { q: query }), text: query })],
    ...counts("searches"),
    ...names.map((name) => columns[name]),
  ], rows));
}

function productsOf(rows, money) {
  return el("section", {}, el("h2", { text: "Top products" }), listOf("Top products", [
    ["product", (row) => el("a", { href: `#products/${encodeURIComponent(row.product_id)}`, text: row.title || row.product_id })],
    ...counts("impressions", "clicks", "carts", ["units sold", "units"]),
    ["revenue", ({ revenue }) => money(revenue), true],
  ], rows));
}

function listOf(title, columns, rows) {
  return rows.length ? table(title, columns, rows) : el("p", { text: "None." });
}

function changeOf(value, earlier, write) {
  if (value === null || earlier === null) return "no earlier value";
  if (!earlier) return value ? `${write(earlier)} before` : "as before";
  const change = (value - earlier) / earlier;
  const sign = Math.abs(change) < 0.0005 ? "=" : change > 0 ? "▲" : "▼";
  return `${sign} ${percent(Math.abs(change))} (${write(earlier)} before)`;
}

function moneyOf(currency) {
  try {
    const format = new Intl.NumberFormat("en", { style: "currency", currency, maximumFractionDigits: 0 });
    return (value) => format.format(value);
  } catch {
    return (value) => number(value, 2);
  }
}

/** Today's share of attention for each exposure goal; null if there are none. */
export function goalsOf(goals) {
  if (!goals.length) return null;
  return el("section", {}, el("h2", { text: "Exposure goals of rules today" }),
    el("p", { class: "hint", text: "The share of attention in the recorded searches of today (UTC) to which a rule applied. The strength is in standard deviations of the scores of the best hits." }),
    table("Exposure goals", [
      ["rule", ({ rule }) => rule],
      ["products", ({ filters }) => filters],
      ...counts("searches"),
      ["share", ({ share, searches }) => (searches ? percent(share) : "–"), true],
      ["goal", ({ at_least: least, at_most: most }) => (least === null ? `at most ${percent(most)}` : `at least ${percent(least)}`), true],
      ["strength", ({ strength }) => `${strength > 0 ? "+" : ""}${number(strength, 2)}`, true],
    ], goals));
}

/** A chart of `series` ([name, of(row)]) over `rows` with their `day`; `write(value)` formats a value. */
function chart(title, unit, rows, series, write) {
  const keys = series.map(([name], at) => el("span", { class: `key line-${at}`, text: name }));
  const drawn = el("div", { class: "plot" });
  new ResizeObserver(() => drawn.clientWidth && fill(drawn, plot({ title, unit, rows, series, write }, drawn.clientWidth))).observe(drawn);
  return el("section", { class: "chart" }, el("h2", { text: title }), el("p", { class: "keys", "aria-hidden": "true" }, keys), drawn,
    el("details", {}, el("summary", { text: "As a table" }), table(title, [
      ["day", dayOf], ...series.map(([name, of]) => [name, (row) => write(of(row)), true]),
    ], rows)));
}

function plot({ title, unit, rows, series, write }, width) {
  const most = ceiling(Math.max(...rows.flatMap((row) => series.map(([, of]) => of(row) ?? 0))));
  const x = (at) => LEFT + ((width - LEFT - RIGHT) * at) / Math.max(rows.length - 1, 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const every = Math.max(1, Math.ceil((rows.length * DAY_PX) / (width - LEFT - RIGHT)));
  return el("svg", { width, height: HEIGHT, role: "img", "aria-label": `${title}, ${dayOf(rows[0])} to ${dayOf(rows.at(-1))}; the table below has the values` },
    Array.from({ length: TICKS + 1 }, (_, at) => (most * at) / TICKS).map((value) => [
      el("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      el("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end", text: write(value) })]).flat(),
    rows.map((row, at) => (at % every ? null : el("text", { x: x(at), y: HEIGHT - BOTTOM + 18, "text-anchor": at ? "middle" : "start", text: dayOf(row) }))),
    el("text", { x: 0, y: 12, text: unit }), el("text", { x: width - RIGHT, y: HEIGHT - 6, "text-anchor": "end", text: "day (UTC)" }),
    series.map(([, of], line) => el("path", { class: `line line-${line}`, d: pathOf(rows.map((row, at) => (of(row) === null ? null : [x(at), y(of(row))]))) })));
}

/** The path through points, interrupted at null. */
function pathOf(points) {
  return points.map((point, at) => (point ? `${at && points[at - 1] ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}` : "")).join("");
}

/** The smallest number of the form 1, 2, 4 or 8 times a power of ten that is at least `value`: its quarters are short. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 8, 10].find((factor) => factor * power >= value);
}

function dayOf({ day }) {
  return new Date(`${day}T00:00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}
