// The panels of rules, synonyms, relevance settings, texts for answers and sponsored campaigns.

import { withParameters } from "./address.js";
import { call } from "./api.js";
import { documentsPart } from "./admin-documents.js";
import { attempt, button, counts, moment, notice, number, opener, pairsText, percent, table, tag } from "./admin-ui.js";
import { el } from "./dom.js";

const FILTER = ["filters", "Products that pass this filter", { wide: true }];
const PRODUCTS = ["products", "Products", { as: "products" }];
const STRENGTH = ["strength", "Strength", { type: "number", step: "any", min: 0, placeholder: 1 }];
const SHARE = { type: "number", step: "any", min: 0, max: 1 };
const ACTIONS = {
  pin: ["Pin products", [[PRODUCTS, ["position", "Position", { type: "number", step: 1, min: 1, placeholder: 1 }]]]],
  boost: ["Move up", [[FILTER, STRENGTH]]],
  bury: ["Move down", [[FILTER, STRENGTH]]],
  hide: ["Hide", [[PRODUCTS, FILTER]]],
  restrict: ["Show only", [[FILTER]]],
  redirect: ["Redirect", [[["url", "Address", { wide: true }]]]],
  data: ["Data for the page", [[["values", "An object as JSON", { as: "json", wide: true }]]]],
  exposure: ["Share of attention", [[FILTER, ["at_least", "At least, 0 to 1", SHARE], ["at_most", "Or at most", SHARE]]]],
  classify: ["Set the type", [[["type", "Type", { wide: true }], PRODUCTS, FILTER]]],
};
const MATCHES = [["any", "any query"], ["exact", "equals"], ["contains", "contains these words"]];
const PERIOD = [["starts", "From", { type: "datetime-local" }], ["ends", "Until", { type: "datetime-local" }]];
const enabled = ["enabled", "Enabled", { type: "checkbox", value: true }];

/** Chooses "contains" once a query is typed. */
function oninput({ target }) {
  const match = target.closest(".line").querySelector("select");
  if (match.value === "any") match.value = "contains";
}

export const rulesPart = () => documentsPart({
  kind: "rules",
  one: "rule",
  title: "Rules",
  hint: "Rules apply as soon as they are saved. Try one on a search first.",
  tries: true,
  start: {},
  columns: [
    ["when", ({ when = {} }) => [when.query ? `${when.match} “${when.query}”` : "any query", when.filters, when.contexts && `in ${when.contexts.join(" or ")}`,
      when.starts && `from ${moment(when.starts)}`, when.ends && `until ${moment(when.ends)}`].filter(Boolean).join("; ")],
    ["actions", ({ actions }) => actions.map(({ kind }) => kind).join(", ")],
    ...counts("priority"),
  ],
  below: ({ details }) => goalsOf(details.exposure_goals),
  lines: [
    [["id", "Id", { maxlength: 100, placeholder: "from the name or query" }], ["name", "Name"], ["priority", "Priority", { type: "number", step: 1, placeholder: 0 }], enabled],
    [["when", "", { lines: [
      [["match", "When the query", { options: MATCHES, value: "any" }], ["query", "Query", { oninput }], ["filters", "And the shopper's filter contains", { placeholder: 'category = "Tools"' }]],
      [["contexts", "In one of the contexts", { as: "list", placeholder: "mobile, newsletter" }], ...PERIOD],
    ] }]],
    [["actions", "Add an action", { kinds: ACTIONS }]],
  ],
});

/** Today's share of attention for each exposure goal. */
function goalsOf(goals) {
  return goals.length && el("section", {}, el("h2", { text: "Exposure goals of rules today" }),
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

export const synonymsPart = () => documentsPart({
  kind: "synonyms",
  one: "synonym",
  title: "Synonyms",
  hint: "Synonyms apply as soon as they are saved, in addition to those of the version.",
  start: {},
  nameOf: ({ phrases, to }) => [phrases, to].filter((each) => each?.length).map((each) => each.join(", ")).join(" → "),
  columns: [],
  lines: [
    [["phrases", "Words, separated by commas", { as: "list", placeholder: "sofa, couch", wide: true }],
      ["kind", "They", { options: [["two-way", "match each other"], ["one-way", "also match"]], value: "two-way" }],
      ["to", "Target phrases", { as: "list", placeholder: "only for “also match”", wide: true }], enabled],
  ],
});

const WEIGHTED = ["title", "brand", "category", "description"];
const WEIGHTS_HINT = "The weight multiplies the term frequencies of a field; 0 ignores the field; unlisted attributes have weight 1. Weights take effect with the next rebuild, so a preview does not show them.";
const figure = (name, label, props) => [name, label, { type: "number", required: true, ...props }];

export const relevancePart = () => documentsPart({
  kind: "relevance",
  one: "settings",
  title: "Relevance",
  hint: "Settings apply as soon as they are saved. Try them on a search first.",
  isSingle: true,
  tries: true,
  nameOf: () => "all settings",
  above: ({ documents: [{ fields }], faults, details: { fields_in_effect: current } }) => {
    const names = [...WEIGHTED.map((name) => `${name} ${current[name]}`), pairsText(current.attributes)].filter(Boolean);
    const waits = WEIGHTED.some((name) => current[name] !== fields[name]) || pairsText(current.attributes) !== pairsText(fields.attributes);
    return [...Object.values(faults), waits ? `Until the next rebuild searches use the weights ${names.join(", ")}.` : ""].filter(Boolean).map(notice);
  },
  lines: [
    [figure("cutoff", "Cutoff (higher: fewer queries have hits)", { min: -3, max: 3, step: 0.05 }), figure("margin", "Margin (lower: fewer hits)", { min: 0.5, max: 10, step: 0.05 }),
      ["typo_tolerance", "Spelling corrections", { options: [["on", "search for certain corrections"], ["offer", "only offer corrections"], ["off", "none"]] }]],
    [["never_corrected", "Words that are never corrected, separated by commas", { as: "list", wide: true }]],
    [["hidden", "Fields visible only to keys with the scope admin, separated by commas", { as: "list", wide: true }]],
    [["signals", "Add a signal", {
      title: "Signals",
      hint: "Numeric fields, such as rating or margin, that move the first 100 hits.",
      one: "Signal",
      start: { weight: 1 },
      each: [[["field", "Field", { required: true, placeholder: "rating" }], figure("weight", "Weight", { min: 0.05, max: 10, step: 0.05 }), ["descending", "Higher is better", { type: "checkbox", value: true }]]],
    }]],
    [["fields", "", {
      title: "Weights of the searched fields",
      hint: WEIGHTS_HINT,
      lines: [WEIGHTED.map((name) => figure(name, name, { min: 0, max: 10 })), [["attributes", "Attributes", { as: "pairs", placeholder: "colour: 3, material: 0", wide: true }]]],
    }]],
  ],
});

export const answersPart = () => documentsPart({
  kind: "answers",
  one: "text",
  title: "Answers",
  hint: "Questions are answered with quotes of these texts and of product texts. A saved text is used at once.",
  find: "Find a text",
  start: { source: "faq" },
  nameOf: ({ question, answer }) => question || answer.slice(0, 80),
  columns: [["answer", ({ answer }) => answer], ["about", ({ products = [], product_type: type }) => [...products, type].filter(Boolean).join(", ") || "the whole store"], ["source", ({ source }) => source]],
  above: async (_, part) => {
    const { questions } = await call("/v1/answers/unanswered");
    return el("section", {}, el("h2", { text: "Questions without an answer" }), table("Questions without an answer", [
      ["question", ({ text, about }) => el("div", {}, text, el("p", { class: "hint", text: about.title || about.product_type || "" }))],
      ...counts("times"),
      ["", ({ text, about }) => opener("Answer", text, () => part.edit({ source: "faq", question: text, products: [about.product_id].filter(Boolean), product_type: about.product_type || undefined }))],
    ], questions, "Every question of enough shoppers has an answer. A refresh of the derived tables counts them."));
  },
  lines: [
    [["question", "Question", { maxlength: 500, wide: true }]],
    [["answer", "Answer", { area: true, rows: 4, maxlength: 4000, required: true, wide: true }]],
    [["products", "Product ids, separated by commas", { as: "list", placeholder: "none: the whole store", wide: true }], ["product_type", "Type of product"], ["source", "Source"]],
  ],
});

const amount = (name, label, props) => [name, label, { type: "number", step: "any", min: 0, ...props }];
const TAGS = { running: "in_stock", waiting: "preorder", spent: "out_of_stock" };
const lines = (name, label) => [name, label, { as: "lines", area: true, wide: true, rows: 3 }];

export const sponsoredPart = () => documentsPart({
  kind: "campaigns",
  one: "campaign",
  title: "Campaigns",
  hint: "Products that advertisers pay for, labelled and separate from the hits. No bid can show an irrelevant product.",
  start: {},
  above: ({ details: { enabled } }, part) => [!enabled && notice("Sponsored hits are off: shoppers see none, whatever campaigns there are."),
    part.switchTo("sponsored", !enabled, enabled ? "Switch all sponsored hits off" : "Switch sponsored hits on")],
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
    [amount("bid", "Bid per click", { required: true }), amount("daily_budget", "Daily budget"), amount("budget", "Total budget"), amount("floor", "Relevance floor", { min: -10 }),
      ["pacing", "Pacing", { options: [["even", "even over the day"], ["fast", "as fast as clicks come"]], value: "even" }]],
    [["starts", "From", { type: "datetime-local" }], ["ends", "Until", { type: "datetime-local" }], ["enabled", "On", { type: "checkbox", value: true }]],
  ],
});

function logOf(campaign, days, entries, close) {
  return el("section", { "aria-label": "Log" }, el("h2", { tabindex: "-1", text: `Log of ${campaign}` }),
    table("By day", [
      ["day", ({ day }) => day],
      ...counts(["impressions", "shown"], "clicks", "charged"),
      ["amount", ({ amount }) => number(amount, 2), true],
      ["not charged", ({ uncharged }) => Object.entries(uncharged).map(([reason, count]) => `${reason} ${number(count)}`).join(", ")],
    ], days, "No sponsored hits were shown in the last 30 days."),
    table("Clicks", [
      ...counts(["entry", "id"]),
      ["when", ({ time }) => moment(time)],
      ["product", ({ product }) => product],
      ...counts("place"),
      ["price", ({ price }) => number(price, 4), true],
      ["amount", ({ amount }) => number(amount, 4), true],
      ["reason", ({ reason, refunds }) => (refunds ? `${reason}: refund of ${refunds}` : reason)],
    ], entries), close);
}
