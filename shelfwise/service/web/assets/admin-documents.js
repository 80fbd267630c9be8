// Panels of documents, each a table, an editor with a preview and the history from a declaration: rules, synonyms, relevance settings,
// texts for answers, sponsored campaigns and experiments.

import { call } from "./api.js";
import { attempt, button, editor, field, formOrJson, lineForm, listPart, moment, notice, number, opener, pairsText, percent, table, tag } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const MAX_LISTED = 200;

/**
 * A panel by its declaration:
 * - `kind`, the name in paths; `one`, the name of one document; `title` and `hint`;
 * - `lines` of its form, or a function that returns a promise of them; `start`, the first values of a new document;
 * - `nameOf(document)`; `columns`, or a function of a response that returns them;
 * - `above` and `below`, functions of a response and the panel that return elements around the table;
 * - `find`, the label of a field that searches the documents; `tries`, whether the kind has a preview;
 * - `actions(document, panel)`, more buttons of a row;
 * - `isSingle`, whether there is only one document;
 * - `buttons(document, panel, response)`, instead of the usual ones.
 */
export function documentsPart(declaration) {
  const { kind, one, title, hint, start, columns, find, isSingle, nameOf = ({ id }) => id, above, below } = declaration;
  const words = find && field(find, { type: "search", wide: true });
  const cellOf = (document, fault) => el("div", {}, el("b", { text: nameOf(document) }), document.name ? ` ${document.name} ` : " ",
    document.enabled === false && tag("off"), fault && el("p", { class: "faults", text: fault }));
  const usual = (document, part) => {
    const name = nameOf(document);
    const path = `/v1/${kind}/${encodeURIComponent(document.id)}`;
    const isOff = document.enabled === false;
    return [opener("Edit", name, () => part.edit(document)), declaration.actions?.(document, part),
      declaration.lines.flat().some(([field]) => field === "enabled") && part.act(isOff ? "Switch on" : "Switch off", name, [path, "PATCH", { enabled: isOff }], `${name} is ${isOff ? "on" : "off"}`),
      part.act("Remove", name, [path, "DELETE"], `${name} is removed`, `Remove ${name}? Its history is kept.`)];
  };
  const tableOf = ({ documents, total, ...found }, part) => [
    total > documents.length && el("p", { class: "hint", text: `The first ${number(documents.length)} of ${number(total)}.` }), table(title, [
      [one, (document) => cellOf(document, found.faults[document.id])], ...(typeof columns === "function" ? columns(found) : columns),
      ["", (document) => el("div", { class: "buttons" }, (declaration.buttons || usual)(document, part, found))],
    ], documents, words?.value() ? `No ${one} has these words.` : `There are no ${title.toLowerCase()} yet.`)];
  const editorOf = async (document, part) => {
    const form = formOrJson(typeof declaration.lines === "function" ? await declaration.lines() : declaration.lines, document, `The ${one} as JSON`);
    const send = async (value) => {
      await call(`/v1/${kind}`, { method: "PUT", body: { documents: [value] } });
      await part.done(`The ${one} is saved`);
    };
    const name = isSingle ? title : document.id ? `${one[0].toUpperCase()}${one.slice(1)} ${nameOf(document)}` : `New ${one}`;
    return editor({ title: name, form, send, close: isSingle ? undefined : part.close, others: declaration.tries ? tryForm(kind, () => form.value()) : [] });
  };
  const pastOf = (changes, part) => el("section", {}, el("h2", { text: "History" }), table("History", [
    "revision", ["when", ({ time }) => moment(time)], ["by", "who"],
    [one, ({ before, after }) => nameOf(after || before)], ["change", changeOf],
    ["", ({ revision }) => part.act("Restore", `revision ${revision}`, [`/v1/${kind}/restore`, "POST", { revision }],
      `Revision ${revision} is restored`, `Restore all ${title.toLowerCase()} of revision ${revision}?`)],
  ], changes));
  return listPart({
    title,
    hint,
    above: (part) => [!isSingle && el("div", { class: "buttons" }, button(`New ${one}`, () => part.edit(start), "primary")),
      words && lineForm(part.status, part.refresh, "Find", [words], { kind: "small", role: "search" })],
    async load(part) {
      part.edit = (document) => attempt(part.status, async () => part.show(await editorOf(document, part)));
      const found = await call(`/v1/${kind}`, { query: { limit: MAX_LISTED, q: words?.value() } });
      const { changes } = await call(`/v1/${kind}/history?limit=20`);
      fill(part.past, changes.length && pastOf(changes, part));
      return [await above?.(found, part), isSingle ? await editorOf(found.documents[0], part) : tableOf(found, part), below?.(found, part)];
    },
  });
}

/** A change in the history of documents: the names of the changed fields. */
function changeOf({ before, after }) {
  if (!before || !after) return before ? "removed" : "added";
  const names = Object.keys({ ...before, ...after }).filter((name) => JSON.stringify(after[name]) !== JSON.stringify(before[name]));
  return `changed: ${names.join(", ")}`;
}

/** The effect of a change on a result page. */
function previewOf(found) {
  const rows = [...found.gained, ...found.moved, ...found.lost];
  const text = `${number(found.total_before)} products before, ${number(found.total_after)} after.`;
  if (!rows.length) return el("p", { role: "status", text: `The first 20 hits do not change. ${text}` });
  return [el("p", { role: "status", text }), table("What would change", [
    ["product", ({ title, product }) => title || product], ["type", "product_type"], ["place before", "before"], ["place after", "after"], ["by rule", "rule"],
  ], rows)];
}

/** A form that tries `changed()`, a changed document, on a query. */
function tryForm(kind, changed) {
  const status = el("div");
  const preview = el("div");
  const query = field("Try it on", { value: changed().when?.query, placeholder: "a query", wide: true });
  const work = async () => {
    const document = changed();
    query.input.value ||= document.when?.query || "";
    fill(preview, previewOf(await call(`/v1/${kind}/preview`, { method: "POST", body: { q: query.input.value, put: [document], size: 20 } })));
  };
  return [status, lineForm(status, work, "What would this change?", [query], { kind: "small" }), preview];
}

const FILTER = ["filters", "Products that pass this filter", { wide: true }];
const PRODUCTS = ["products", "Products", { as: "products" }];
const amount = (name, label, props) => [name, label, { type: "number", step: "any", min: 0, ...props }];
const STRENGTH = amount("strength", "Strength", { placeholder: 1 });
const ACTIONS = {
  pin: ["Pin products", [[PRODUCTS, ["position", "Position", { type: "number", step: 1, min: 1, placeholder: 1 }]]]],
  boost: ["Move up", [[FILTER, STRENGTH]]],
  bury: ["Move down", [[FILTER, STRENGTH]]],
  hide: ["Hide", [[PRODUCTS, FILTER]]],
  restrict: ["Show only", [[FILTER]]],
  redirect: ["Redirect", [[["url", "Address", { wide: true }]]]],
  data: ["Data for the page", [[["values", "An object as JSON", { as: "json", wide: true }]]]],
  exposure: ["Share of attention", [[FILTER, amount("at_least", "At least, 0 to 1", { max: 1 }), amount("at_most", "Or at most", { max: 1 })]]],
  classify: ["Set the type", [[["type", "Type", { wide: true }], PRODUCTS, FILTER]]],
};
const MATCHES = [["any", "any query"], ["exact", "equals"], ["contains", "contains these words"]];
const PERIOD = [["starts", "From", { type: "datetime-local" }], ["ends", "Until", { type: "datetime-local" }]];
const ENABLED = ["enabled", "Enabled", { type: "checkbox", value: true }];
const TAGS = { running: "in_stock", waiting: "preorder", spent: "out_of_stock" };

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
    ["priority", ({ priority }) => number(priority), true],
  ],
  below: ({ details }) => goalsOf(details.exposure_goals),
  lines: [
    [["id", "Id", { maxlength: 100, placeholder: "from the name or query" }], ["name", "Name"], ["priority", "Priority", { type: "number", step: 1, placeholder: 0 }], ENABLED],
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
      "rule", ["products", "filters"], "searches",
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
      ["to", "Target phrases", { as: "list", placeholder: "only for “also match”", wide: true }], ENABLED],
  ],
});

const WEIGHTED = ["title", "brand", "category", "description"];
const WEIGHTS_HINT = "The weight multiplies the term frequencies of a field; 0 ignores the field; unlisted attributes have weight 1. Weights take effect with the next rebuild, so a preview does not show them.";
const figure = (name, label, props) => amount(name, label, { step: null, required: true, ...props });

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
  columns: [["answer", ({ answer }) => answer], ["about", ({ products = [], product_type: type }) => [...products, type].filter(Boolean).join(", ") || "the whole store"], "source"],
  above: async (_, part) => {
    const { questions } = await call("/v1/answers/unanswered");
    return el("section", {}, el("h2", { text: "Questions without an answer" }), table("Questions without an answer", [
      ["question", ({ text, about }) => el("div", {}, text, el("p", { class: "hint", text: about.title || about.product_type || "" }))],
      "times",
      ["", ({ text, about }) => opener("Answer", text, () => part.edit({ source: "faq", question: text, products: [about.product_id].filter(Boolean), product_type: about.product_type || undefined }))],
    ], questions, "Every question of enough shoppers has an answer. A refresh of the derived tables counts them."));
  },
  lines: [
    [["question", "Question", { maxlength: 500, wide: true }]],
    [["answer", "Answer", { area: true, rows: 4, maxlength: 4000, required: true, wide: true }]],
    [["products", "Product ids, separated by commas", { as: "list", placeholder: "none: the whole store", wide: true }], ["product_type", "Type of product"], ["source", "Source"]],
  ],
});

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
    "advertiser",
    ["queries and types", ({ queries = [], types = [] }) => [...queries, ...types].slice(0, 4).join(", ") || "any query"],
    ["bid", ({ bid }) => number(bid, 2), true],
    ["spent today", ({ id }) => number(states[id].spent_today, 2), true],
    ["spent", ({ id }) => number(states[id].spent, 2), true],
    ["budget", ({ budget, daily_budget: daily }) => [budget && number(budget, 2), daily && `${number(daily, 2)} a day`].filter(Boolean).join(", "), true],
  ],
  actions: ({ id: campaign }, part) => opener("Log", campaign, () => attempt(part.status, async () => {
    const { days } = await call("/v1/campaigns/report", { query: { campaign } });
    const { entries } = await call("/v1/campaigns/log", { query: { campaign, limit: 1000 } });
    part.show(logOf(campaign, days, entries.reverse(), button("Close", part.close, "primary plain")));
  }), " of "),
  lines: [
    [["id", "Id", { maxlength: 32, placeholder: "from the name or a query" }], ["name", "Name"], ["advertiser", "Advertiser", { required: true }]],
    [["products", "Products", { as: "products" }]],
    [lines("queries", "Queries, one a line"), lines("types", "Product types, one a line")],
    [amount("bid", "Bid per click", { required: true }), amount("daily_budget", "Daily budget"), amount("budget", "Total budget"), amount("floor", "Relevance floor", { min: -10 }),
      ["pacing", "Pacing", { options: [["even", "even over the day"], ["fast", "as fast as clicks come"]], value: "even" }]],
    [...PERIOD, ["enabled", "On", { type: "checkbox", value: true }]],
  ],
});

function logOf(campaign, days, entries, close) {
  return el("section", { "aria-label": "Log" }, el("h2", { tabindex: "-1", text: `Log of ${campaign}` }),
    table("By day", [
      "day", ["impressions", "shown"], "clicks", "charged",
      ["amount", ({ amount }) => number(amount, 2), true],
      ["not charged", ({ uncharged }) => Object.entries(uncharged).map(([reason, count]) => `${reason} ${number(count)}`).join(", ")],
    ], days, "No sponsored hits were shown in the last 30 days."),
    table("Clicks", [
      ["entry", "id"], ["when", ({ time }) => moment(time)], "product", "place",
      ["price", ({ price }) => number(price, 4), true],
      ["amount", ({ amount }) => number(amount, 4), true],
      ["reason", ({ reason, refunds }) => (refunds ? `${reason}: refund of ${refunds}` : reason)],
    ], entries), close);
}

const UNCHANGED = [undefined, "unchanged"];
const GOALS = {
  click_through: "clicked searches", empty: "empty searches", abandoned: "abandoned searches", carts: "carts a shopper", purchases: "purchases a shopper",
};
const RATES = new Set(["click_through", "empty", "abandoned"]);

export const experimentsPart = () => documentsPart({
  kind: "experiments",
  one: "experiment",
  title: "Experiments",
  hint: "Compares ways of ranking by shoppers' behaviour. A running experiment can be stopped but not changed.",
  start: { variants: [{ name: "now" }, { name: "new" }] },
  columns: ({ details: { states } }) => [
    ["state", ({ id }) => tag(states[id].state, TAGS)],
    ["from", ({ starts }) => moment(starts)],
    ["until", ({ ends }) => moment(ends)],
    ["mode", ({ mode = "split", unit = "shopper", share = 1 }) => `${mode} by ${unit}${share === 1 ? "" : ` of ${percent(share)}`}`],
    ["variants", ({ variants }) => variants.map((each) => el("p", { text: `${each.name}: ${optionsOf(each)}` }))],
  ],
  buttons: (experiment, part, { details: { states } }) => {
    const { id } = experiment;
    const { state } = states[id];
    const path = `/v1/experiments/${encodeURIComponent(id)}`;
    const report = () => attempt(part.status, async () => part.show(reportOf(await call(`${path}/report`), button("Close", part.close, "primary plain"))));
    return [
      ["draft", "waiting"].includes(state) ? opener("Edit", id, () => part.edit(experiment)) : opener("Report", id, report, " on "),
      opener("Copy", id, () => part.edit({ ...experiment, id: undefined, starts: undefined, ends: undefined })),
      state === "running" ? part.act("Stop", id, [path, "PATCH", { enabled: false }], `${id} is stopped`, `Stop ${id} permanently? Its results are kept.`) : null,
    ];
  },
  lines: async () => {
    const { rankers } = await call("/v1/models");
    const names = ["off", "default", ...rankers.filter(({ problem, misfit }) => !problem && !misfit).map(({ name }) => name)];
    return [
      [["id", "Id", { required: true, maxlength: 32 }], ["name", "Name", { maxlength: 200 }], ENABLED],
      [["mode", "Mode", { options: [["split", "each shopper sees one variant"], ["interleave", "all shoppers see both, interleaved"]], value: "split" }],
        ["unit", "Assign by", { options: [["shopper", "a shopper"], ["session", "a session"], ["query", "a shopper's text"]], value: "shopper" }],
        amount("share", "Share of all shoppers", { placeholder: 1, max: 1 })],
      PERIOD,
      [["goal", "Deciding measure", { options: Object.entries(GOALS), value: "click_through" }], amount("planned", "Expected shoppers", { placeholder: 10_000, step: 1 }),
        amount("least_effect", "Smallest relevant difference", { placeholder: 0.02 }), ["aa_test", "A/A test: all variants are equal on purpose", { type: "checkbox", value: false }]],
      [["variants", "Add a variant", {
        hint: "The first variant is the baseline.",
        one: "Variant",
        each: [
          [["name", "Name", { required: true, maxlength: 16 }], amount("weight", "Weight", { placeholder: 1 })],
          [["options", "", { lines: [[
            ["stage", "Stage", { options: [UNCHANGED, ["merged", "merged"], ["ranked", "ranked"]] }], ["merge", "Merge method", { placeholder: "unchanged" }],
            ["rules", "Rules", { options: [UNCHANGED, [true, "with rules"], [false, "without rules"]] }], ["ranker", "Ranker", { options: [UNCHANGED, ...names.map((each) => [each, each])] }],
          ]] }]],
        ],
      }]],
    ];
  },
});

/** The report as a section, with the button `close`. */
function reportOf({ experiment, analysis, ...report }, close) {
  const { draft, comparisons, variants, decisions, warnings } = analysis;
  const from = new Date(report.begins) > new Date(report.first) ? report.begins : report.first;
  const until = report.over && new Date(report.over) < new Date(report.last) ? report.over : report.last;
  const share = (interval) => (interval ? `${percent(interval.low)} to ${percent(interval.high)}` : "–");
  return el("section", { "aria-label": "Report" }, el("h2", { tabindex: "-1", text: `Results of ${experiment.id}` }),
    el("p", { class: "hint", text: `State: ${report.state}. Events from ${moment(from)} to ${moment(until)}, in tables of ${moment(report.made)}.` }),
    [...report.notices, ...warnings].map(notice),
    decisions.map(({ outcome, text }) => el("p", {}, el("b", { text: `${outcome}: ` }), text)),
    draft ? table("Wins", [
      ["wins of", ({ variant }) => `${variant} over ${experiment.variants[0].name}`],
      "shoppers", "searches", "wins", "losses", "ties",
      ["share", (row) => percent(row.win_share), true],
      ["anytime-valid, 95%", ({ always }) => share(always), true],
      ["fixed-sample, 95%", ({ fixed }) => share(fixed), true],
    ], [draft]) : table("Variants", [
      ["variant", "name"], "units", "shoppers", "searches",
      ...Object.entries(GOALS).map(([goal, words]) => [words, ({ figures }) => (RATES.has(goal) ? percent(figures[goal]) : number(figures[goal], 4)), true]),
    ], variants),
    table("Differences", [
      ["variant", (row) => el(row.decides ? "b" : "span", { text: row.variant })],
      ["measure", ({ goal }) => GOALS[goal]],
      ["difference", ({ goal, difference }) => moved(goal, difference), true],
      ["relative", ({ relative }) => (relative === null ? "–" : `${signed(100 * relative, 1)}%`), true],
      ["anytime-valid, 95%", ({ goal, always }) => `${moved(goal, always.low)} to ${moved(goal, always.high)}`, true],
      ["fixed-sample, 95%", ({ goal, fixed }) => `${moved(goal, fixed.low)} to ${moved(goal, fixed.high)}`, true],
    ], comparisons),
    el("p", { class: "hint", text: "Anytime-valid intervals hold at every look, and conclusions use them; fixed-sample intervals hold only at an end that was planned in advance." }),
    el("div", { class: "buttons" }, close));
}

/** The options of a variant as text. */
function optionsOf({ options = {} }) {
  return Object.entries(options).map(([name, value]) => `${name} ${value}`).join(", ") || "unchanged";
}

/** A difference of a measure, for rates in percentage points. */
function moved(goal, value) {
  return RATES.has(goal) ? `${signed(100 * value, 2)} points` : signed(value, 4);
}

function signed(value, digits) {
  return value.toLocaleString("en", { signDisplay: "always", minimumFractionDigits: digits, maximumFractionDigits: digits });
}
