// Feeds: upload, check, publication, and the quality report of the last rebuild.

import { call } from "./api.js";
import { attempt, button, counts, field, figures, form, lineForm, listPart, moment, notice, number, percent, table, tag } from "./admin-ui.js";
import { announce, el, fill } from "./dom.js";
import { follow } from "./admin-service.js";

const TAGS = { error: "out_of_stock", warning: "preorder", yes: "in_stock", "an earlier version": "preorder" };
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
    ["feed", ({ name }) => name],
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
    rowsOf("Dropped values", of, report.noted, ["field and reason", ({ reason }) => reason], ["problem", ({ title }) => title]),
    el("h3", { text: "Findings" }), table(`Findings in ${of}`, [
      ["kind", ({ severity }) => tag(severity, TAGS)],
      ["finding", ({ says, advice }) => [says, el("p", { class: "hint", text: advice })]],
      ...counts(["products", "count"]),
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
    table(`${title} of ${of}`, [...counts("line"), ["file", ({ file }) => nameOf(file)], ...columns], rows),
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
