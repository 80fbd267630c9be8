// The service itself: feeds, tasks, versions of the index, models, keys, and health.

import { call } from "./api.js";
import { attempt, button, editor, field, figures, form, lineForm, listPart, moment, notice, number, percent, table, tag } from "./admin-ui.js";
import { announce, el, fill } from "./dom.js";

const EVERY_MS = 1500;
const KINDS = {
  rebuild: "Rebuild of the index", check: "Check of a feed", refresh: "Counting of new events", learn: "Learning from events", forget: "Erasure of a shopper", move: "Replacement of all products",
};
const TAGS = {
  running: "preorder", done: "in_stock", failed: "out_of_stock", serves: "in_stock", "this page": "in_stock",
  error: "out_of_stock", warning: "preorder", yes: "in_stock", "an earlier version": "preorder",
};
const CANCELLABLE = new Set(["rebuild", "refresh", "learn", "check"]);

const taskButton = (part, kind, text) => button(text, () => part.change("/v1/tasks", { method: "POST", body: { kind } }, "The task is queued"));

export const tasksPart = () => listPart({
  title: "Tasks",
  hint: "Long tasks run here one after another, with a lower priority than searches. They continue when this page is closed.",
  above: (part) => el("div", { class: "buttons" }, taskButton(part, "refresh", "Count new events"), taskButton(part, "learn", "Learn from events")),
  async load(part) {
    const tasks = await call("/v1/tasks");
    if (tasks.some(isOpen)) setTimeout(() => part.list.isConnected && part.load().catch(() => {}), EVERY_MS);
    return table("Tasks", [
      ["task", ({ kind, arguments: { feeds = [], feed, force } }) => [KINDS[kind] || kind,
        el("p", { class: "hint", text: [...feeds, feed, force && "even if many products are lost"].filter(Boolean).join(", ") })]],
      ["state", ({ state }) => tag(state, TAGS)],
      ["requested", ({ created }) => moment(created)],
      ["duration", durationOf, true],
      ["", outcomeOf],
      ["", (task) => isOpen(task) && CANCELLABLE.has(task.kind) && part.act("Cancel", KINDS[task.kind], [`/v1/tasks/${task.id}/cancel`, "POST"], "The task is cancelled", `Cancel “${KINDS[task.kind]}”? What serves does not change.`)],
    ], tasks, "There are no tasks yet.");
  },
});

/** Follows a task until it is over and shows its progress; returns a promise of the task. */
export async function follow(id, shown) {
  for (;;) {
    const task = await call(`/v1/tasks/${id}`);
    fill(shown, el("p", { role: "status", class: "hint", text: `${KINDS[task.kind]}: ${task.state}. ${lastOf(task)}` }));
    if (!isOpen(task)) return task;
    await new Promise((later) => setTimeout(later, EVERY_MS));
  }
}

function isOpen({ state }) {
  return state === "waiting" || state === "running";
}

function lastOf({ progress }) {
  return progress.trim().split("\n").at(-1).replace(/^[✓·]\s*/, "").replace(/\s+/g, " ");
}

function durationOf({ started, ended }) {
  if (!started) return "";
  const seconds = ((ended ? new Date(ended) : new Date()) - new Date(started)) / 1000;
  return seconds < 90 ? `${number(Math.max(seconds, 0))} s` : `${number(seconds / 60)} min`;
}

function outcomeOf(task) {
  if (task.error) return el("pre", { class: "faults said", text: task.error });
  if (isOpen(task)) return el("p", { text: lastOf(task) });
  const pairs = Object.entries(task.result || {}).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  const text = pairs.map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? number(value, 2) : value}`).join(", ");
  return (task.progress || text) && el("details", {}, el("summary", { text: "Result" }), task.progress && el("pre", { class: "said", text: task.progress.trim() }), text && el("p", { text }));
}

export const versionsPart = () => listPart({
  title: "Versions",
  hint: "Each rebuild creates a version. Live changes are kept whichever version serves.",
  load: async (part) => table("Versions", [
    "version",
    ["", (each) => stateOf(each)],
    ["built", ({ created }) => moment(created)],
    "products",
    ["changed", ({ changes }) => Object.entries(changes || {}).filter(([, count]) => typeof count === "number" && count).map(([name, count]) => `${number(count)} ${name}`).join(", ")],
    ["encoder", "encoder_name"],
    ["size", (each) => bytes(each.bytes), true],
    ["", (each) => serveButton(part, each.version, each, "versions", "")],
  ], (await call("/v1/versions")).reverse()),
});

/** A tag for the serving version or model, or the reason why one cannot serve; else the text `otherwise`. */
function stateOf({ serves, problem, misfit }, otherwise = "") {
  if (serves) return tag("serves", TAGS);
  if (problem || misfit) return el("span", { class: "tag out_of_stock", text: problem || misfit });
  return otherwise;
}

/** A button to serve a version or model, if it can and does not. */
function serveButton(part, name, { serves, problem, misfit }, kind, effect) {
  return !serves && !problem && !misfit && part.act("Serve", name, [`/v1/${kind}/rollback`, "POST", { name }], `${name} serves`, `Serve ${name}?${effect}`);
}

export const modelsPart = () => listPart({
  title: "Models",
  hint: "Models trained on shoppers' events, their evaluation on held-out searches, and which of them serve.",
  async load(part) {
    const { user_towers: towers, ...rankers } = await call("/v1/models");
    const without = rankers.serving ? `${rankers.serving} serves.` : "No ranker of this store serves: results are ordered by the shipped ranker, or by words and vectors.";
    return [modelsOf(part, "Rankers: the order of search results", "ranker", rankers.rankers, rankers.notices, rankers.is_off ? "Rankers are switched off." : without),
      !rankers.rankers.length && el("p", { class: "hint", text: "No ranker was trained for this store yet: use “Learn from events” under Tasks." }),
      modelsOf(part, "User towers: recommendations", "tower", towers.towers, towers.notices, towers.serving ? `${towers.serving} serves.` : "No user tower serves: recommendations are similar and popular products.")];
  },
});

function modelsOf(part, title, kind, models, notices, text) {
  return el("section", {}, el("h2", { text: title }), el("p", { text }), notices.map(notice), table(`${kind[0].toUpperCase()}${kind.slice(1)}s`, [
    [kind, ({ name }) => el("b", { text: name })],
    ["state", (each) => stateOf(each, "does not serve")],
    ["trained", ({ report }) => moment(report?.created)],
    ["evaluation", judgedOf],
    ["", ({ name, problem }) => !problem && cardOf(name)],
    ["", (each) => serveButton(part, each.name, each, "models", " It takes effect for shoppers within a second.")],
  ], models.toReversed()));
}

/** The decision of the gate, and its reasons; the card has the figures. */
function judgedOf({ report }) {
  if (!report) return "";
  const { decision, against } = report;
  const reasons = decision?.reasons || report.rejection_reasons;
  return `${(decision ? !decision.publish : reasons.length) ? "Rejected" : "Passed"}${against ? `, compared with ${against}` : ""}${reasons.length ? `: ${reasons.join("; ")}` : ""}`;
}

/** The model card, loaded when it is opened. */
function cardOf(name) {
  const text = el("pre", { class: "model-card" });
  const ontoggle = async () => (text.textContent ||= (await call(`/v1/models/${encodeURIComponent(name)}/card`)).card);
  return el("details", { ontoggle }, el("summary", { text: "Card", "aria-label": `Card of ${name}` }), text);
}

const SCOPES = {
  search: "find and show products",
  events: "record what shoppers do",
  server: "record events as this store's own server has logged them: with lists, positions, past times and addresses",
  write: "change products and prices",
  metrics: "read the metrics of the service",
  advertiser: "read the ledger of the advertiser with the name of the key",
  admin: "everything, including this page",
};
const KEY_LINES = [
  [["name", "Name", { required: true, maxlength: 100, placeholder: "web shop" }], ["expires", "Until", { type: "datetime-local" }],
    ["requests_per_minute", "Requests a minute", { type: "number", min: 1, placeholder: "default" }]],
  [["filters", "Only products with", { placeholder: "brand = Bosch", wide: true }]],
  [["scopes", "Scopes", { as: "checks", options: Object.entries(SCOPES).map(([scope, text]) => [scope, `${scope}: ${text}`]), value: ["search", "events"] }]],
];

export const keysPart = () => listPart({
  title: "Keys",
  hint: "A key allows a program or a page to use this service within its scopes.",
  above: (part) => button("New key", () => part.show(editor({ title: "New key", label: "New key", form: form(KEY_LINES), send: (body) => createKey(part, body), save: "Create the key", close: part.close })), "primary"),
  async load(part) {
    const keys = await call("/v1/keys");
    return keys.length ? table("Keys", [
      ["name", ({ name, current }) => [name, current && tag("this page", TAGS)]],
      ["id", ({ id }) => el("code", { text: id })],
      ["scopes", ({ scopes }) => scopes.join(", ")],
      ["only products with", ({ filters }) => filters || "all"],
      ["indexes", ({ indexes }) => indexes.join(", ") || "all"],
      ["requests a minute", (key) => (key.requests_per_minute ? number(key.requests_per_minute) : "default"), true],
      ["created", ({ created }) => moment(created)],
      ["expires", endOf],
      ["", (key) => part.act("Withdraw", key.name, [`/v1/keys/${encodeURIComponent(key.id)}`, "DELETE"], `${key.name} is withdrawn`, `Withdraw the key ${key.name}? ${warningOf(key)}`)],
    ], keys) : notice("There are no keys: anyone may search and record events. As soon as one exists, every program needs a key. The store page gets its own, and this page stays open to you.");
  },
});

async function createKey(part, body) {
  const { key, name } = await call("/v1/keys", { method: "POST", body });
  const copy = () => navigator.clipboard.writeText(key).then(() => announce("Copied"));
  await part.load();
  part.show(el("section", { "aria-label": "The new key" }, el("h2", { tabindex: "-1", text: `The key ${name}` }),
    notice("Copy it now and keep it in a safe place. It is shown only once, since the service stores only its hash."), el("code", { class: "secret", tabindex: "0", text: key }),
    el("div", { class: "buttons" }, navigator.clipboard && button("Copy", copy, "primary"), button("Done", part.close, "primary plain"))));
}

function warningOf({ of_page: isOfPage, current }) {
  return isOfPage ? "The store page gets a new one." : `Programs that use it, or a key narrowed from it, stop working at once.${current ? " This page uses it, too." : ""}`;
}

function endOf({ expires }) {
  if (!expires) return "never";
  return new Date(expires) > new Date() ? moment(expires) : el("span", { class: "tag out_of_stock", text: `expired ${moment(expires)}` });
}

export const healthPart = () => listPart({
  title: "Health",
  above: (part) => button("Refresh", part.refresh),
  async load() {
    const health = await call("/health/ready");
    return [figures([["state", health.status], ["version", health.version], ["products", number(health.products)], ["ranker", health.ranker || "none"]]), health.notices.map(notice)];
  },
});

const FORMATS = "Google Merchant (XML, TSV), Shopify or WooCommerce CSV, JSON, any CSV or TSV, Parquet; plain, gzip or zstd";

export const feedsPart = () => listPart({
  title: "Feeds",
  hint: "A feed is a file with the products of the catalog. An upload is checked first; shoppers see it after you publish it.",
  async load(part) {
    const { enabled, uploads, feeds, most_bytes: most } = await call("/v1/feeds");
    const report = await call("/v1/reports/quality").catch(() => null);
    const tasks = await call("/v1/tasks");
    const map = tasks.find(({ kind, state }) => kind === "rebuild" && state === "done")?.arguments.map || [];
    const last = { created: report?.created, names: (report?.feeds || []).map(nameOf), map };
    return [
      enabled ? [uploadOf(most, part), uploads.map((each) => pendingOf(each, feeds, last, part)),
        el("section", {}, el("h2", { text: "Feeds of this service" }), feedsOf(feeds, last), feeds.length && rebuildOf(feeds, last, part))]
        : [notice("Uploads are off. Once they are on, feeds are kept in the index directory on the server."), part.switchTo("feeds", true, "Switch uploads on")],
      report && el("section", {}, el("h2", { text: `Quality of the last rebuild (${moment(report.created)})` }), qualityOf(report, "the last rebuild")),
    ];
  },
});

function uploadOf(most, part) {
  const file = field("File", { type: "file", required: true, wide: true });
  const upload = async () => {
    const [chosen] = file.input.files;
    if (chosen.size > most) throw new Error(`The file has ${bytes(chosen.size)}; a feed can have at most ${bytes(most)}.`);
    await part.change(`/v1/feeds/uploads/${encodeURIComponent(chosen.name)}`, { method: "PUT", file: chosen }, "The feed is uploaded and is being checked");
  };
  return el("section", { "aria-label": "Upload" }, el("h2", { text: "Upload a feed" }), el("p", { class: "hint", text: `${FORMATS}. At most ${bytes(most)}.` }),
    lineForm(part.status, upload, "Upload and check", [file]));
}

/** A pending upload: its check, then the findings and the form to publish it. */
function pendingOf({ file, check: task }, feeds, last, part) {
  const status = el("div");
  const shown = el("div");
  const path = `/v1/feeds/uploads/${encodeURIComponent(file.name)}`;
  const discard = button("Discard the upload", () => confirm(`Delete the upload ${file.name}?`) && part.change(path, { method: "DELETE" }, "The upload is deleted"), "primary plain");
  let isFeed = false; // once it is published, whether or not the rebuild succeeded
  const checked = (done) => {
    const { map = [] } = done.arguments || {};
    const columns = columnsOf(done, map, async (body) => checked(await follow((await call(`${path}/check`, { method: "POST", body })).id, shown)), status);
    if (done.state !== "done") return fill(shown, el("div", { class: "rule" }, el("p", { class: "notice faults", role: "alert", text: done.error || `The check was ${done.state}.` }), columns, el("div", { class: "buttons" }, discard)));
    const others = choiceOf(feeds.filter(({ name }) => name !== file.name), last, "Other feeds of the catalog; products of feeds that are not selected are removed");
    const publish = button("Publish", () => confirm(`Build the index from ${file.name} and serve it?`) && attempt(status, async () => {
      const body = others.value();
      const task = await (isFeed ? call("/v1/tasks", { method: "POST", body: { kind: "rebuild", ...body, map, feeds: [file.name, ...body.feeds] } }) : call(`${path}/publish`, { method: "POST", body }));
      isFeed = true;
      try {
        await rebuilt(task, shown, part);
      } catch (error) {
        checked(done); // to publish it anyway
        throw error;
      }
    }), "primary");
    return fill(shown, qualityOf(done.result, file.name), columns, others, el("div", { class: "buttons" }, publish, !isFeed && discard));
  };
  if (!task) checked({ state: "lost" });
  else attempt(status, async () => checked(await follow(task.id, shown)));
  return el("section", { "aria-label": `Upload ${file.name}` }, el("h2", { text: `${file.name}, not published yet` }),
    el("p", { class: "hint", text: `${bytes(file.bytes)}, uploaded ${moment(file.modified)}` }), shown, status);
}

/** A form to check an upload with columns for the fields of products; the columns that the check proposed are filled in. */
function columnsOf({ state, error, result }, map, again, status) {
  const found = JSON.stringify([error, result?.noted]).matchAll(/--map ('[^']+'|[^\s=]+=[^\s;"]+)/g);
  const proposed = [...new Set([...found].map(([, each]) => each.replaceAll("'", "")))].filter((each) => !each.endsWith("=COLUMN"));
  if (state === "done" && !proposed.length && !map.length) return null;
  const columns = field("Columns of the file, as field=column", { as: "list", value: [...map, ...proposed], placeholder: "title=Bezeichnung, price=Preis", wide: true });
  return lineForm(status, () => again({ map: columns.value() }), "Check again", [columns], { kind: "small" });
}

/** A form to select the feeds of a rebuild; those of the last one are selected. */
function choiceOf(feeds, { names }, legend) {
  const lines = [
    [["feeds", legend, { as: "checks", options: feeds.map(({ name }) => [name, name]) }]],
    [["force", "Publish anyway, even if many rows are rejected or products lost", { type: "checkbox", value: false }]],
  ];
  return form(feeds.length ? lines : lines.slice(1), { feeds: feeds.length ? names : [] });
}

function rebuildOf(feeds, last, part) {
  const status = el("div");
  const shown = el("div");
  const choice = choiceOf(feeds, last, "Build the index from");
  const start = () => confirm("Build the index from these feeds and serve it?") && attempt(status, async () => {
    await rebuilt(await call("/v1/tasks", { method: "POST", body: { kind: "rebuild", ...choice.value(), map: last.map } }), shown, part);
  });
  return el("details", {}, el("summary", { text: "Rebuild without an upload" }), choice, el("div", { class: "buttons" }, button("Rebuild", start, "primary")), shown, status);
}

/** Follows a rebuild to its end; raises Error if it was not published. */
async function rebuilt({ id }, shown, part) {
  const over = await follow(id, shown);
  if (over.state !== "done") throw new Error(over.error || `The rebuild was ${over.state}.`);
  await part.done("The new version serves");
}

function feedsOf(feeds, { names, created }) {
  return table("Feeds", [
    ["feed", "name"],
    ["size", (each) => bytes(each.bytes), true],
    ["changed", ({ modified }) => moment(modified)],
    ["in the index", ({ name, modified }) => (names.includes(name) ? tag(new Date(modified) > new Date(created) ? "an earlier version" : "yes", TAGS) : "no")],
  ], feeds, "There are no feeds yet.");
}

/** A quality report: scores, rejected rows, dropped values, and findings with examples. */
function qualityOf(report, of) {
  return [
    figures([["rows read", number(report.read)], ["products", number(report.products)], ["rows rejected", number(countOf(report.rejected))],
      ...report.scores.map(({ measure, score }) => [measure, percent(score)])]),
    rowsOf("Rejected rows", of, report.rejected, ["problem", ({ reason, title }) => (title ? `${reason}: ${title}` : reason)]),
    rowsOf("Dropped values", of, report.noted, ["field and reason", "reason"], ["problem", "title"]),
    el("h3", { text: "Findings" }), table(`Findings in ${of}`, [
      ["kind", ({ severity }) => tag(severity, TAGS)],
      ["finding", ({ says, advice }) => [says, el("p", { class: "hint", text: advice })]],
      ["products", "count"],
      ["share", (row) => percent(row.share), true],
      ["examples", ({ examples }) => el("details", {}, el("summary", { text: `${examples.length}` }), el("ul", {}, examples.map(({ file, line, id, title, value }) =>
        el("li", { text: `${nameOf(file)}, line ${number(line)}: ${id} ${title}${value ? ` (${value})` : ""}` })))) ],
    ], report.findings, "No rule found a problem."),
  ];
}

/** The examples of rows by reason, as a table. */
function rowsOf(title, of, groups, ...columns) {
  const rows = Object.entries(groups).flatMap(([reason, { examples }]) => examples.map((each) => ({ ...each, reason })));
  const left = countOf(groups) - rows.length;
  return rows.length && el("section", {}, el("h3", { text: `${title} (${number(countOf(groups))})` }),
    table(`${title} of ${of}`, ["line", ["file", ({ file }) => nameOf(file)], ...columns], rows),
    left > 0 && el("p", { class: "hint", text: `${number(left)} more, for the same reasons.` }));
}

function countOf(groups) {
  return Object.values(groups).reduce((sum, { count }) => sum + count, 0);
}

function nameOf(path) {
  return path.split("/").at(-1);
}

function bytes(size) {
  return size < 1e6 ? `${number(size / 1e3, 1)} kB` : `${number(size / 1e6, 1)} MB`;
}
