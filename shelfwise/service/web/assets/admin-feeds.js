// Feeds: upload, check, publication, and the quality report of the last rebuild.

import { call } from "./api.js";
import { checks } from "./admin-form.js";
import { attempt, button, check, field, figures, head, lineForm, moment, number, percent, place, switchButton, table } from "./admin-ui.js";
import { announce } from "./announce.js";
import { el, fill } from "./dom.js";
import { follow } from "./admin-service.js";

const TAGS = { error: "tag out_of_stock", warning: "tag preorder", info: "tag" };
const FORMATS = "Google Merchant (XML, TSV), Shopify or WooCommerce CSV, JSON, any CSV or TSV, Parquet; plain, gzip or zstd";
export function feedsPart() {
  const status = place();
  const content = place();
  const report = place();
  const refresh = () => attempt(status, async () => {
    const found = await call("/v1/feeds");
    const last = await call("/v1/reports/quality").catch(() => null);
    const tasks = await call("/v1/tasks");
    const map = tasks.find(({ kind, state }) => kind === "rebuild" && state === "done")?.arguments.map || [];
    fill(content, found.enabled ? partsOf(found, { ...last, map }, refresh)
      : [el("p", { class: "notice", text: "Uploads are off. Once they are on, feeds are kept in the index directory on the server." }), switchButton("feeds", true, "Switch uploads on", status, refresh)]);
    fill(report, last ? el("section", {}, el("h2", { text: `Quality of the last rebuild (${moment(last.created)})` }), qualityOf(last, "the last rebuild")) : null);
  });
  refresh();
  return [...head("Feeds", "A feed is a file with the products of the catalog. An upload is checked first; shoppers see it after you publish it."), status, content, report];
}

function partsOf(found, last, refresh) {
  return [uploadOf(found, refresh),
    found.uploads.map((each) => pendingOf(each, found, last, refresh)),
    el("section", {}, el("h2", { text: "Feeds of this service" }), found.feeds.length ? [feedsOf(found.feeds, last), rebuildOf(found.feeds, last, refresh)] : el("p", { text: "There are no feeds yet." }))];
}

function uploadOf({ most_bytes: most }, refresh) {
  const status = place();
  const file = field("File", { type: "file", required: true, wide: true });
  const upload = async () => {
    const [chosen] = file.input.files;
    if (chosen.size > most) throw new Error(`The file has ${bytes(chosen.size)}; a feed can have at most ${bytes(most)}.`);
    await call(`/v1/feeds/uploads/${encodeURIComponent(chosen.name)}`, { method: "PUT", file: chosen });
    announce("The feed is uploaded and is being checked");
    await refresh();
  };
  return el("section", { "aria-label": "Upload" }, el("h2", { text: "Upload a feed" }), el("p", { class: "hint", text: `${FORMATS}. At most ${bytes(most)}.` }),
    lineForm(status, upload, "Upload and check", [file]), status);
}

/** A pending upload: its check, then the findings and the form to publish it. */
function pendingOf({ file, check: task }, { feeds }, last, refresh) {
  const status = place();
  const shown = place();
  const path = `/v1/feeds/uploads/${encodeURIComponent(file.name)}`;
  const discard = button("Discard the upload", () => confirm(`Delete the upload ${file.name}?`) && attempt(status, async () => {
    await call(path, { method: "DELETE" });
    announce("The upload is deleted");
    await refresh();
  }), "primary plain");
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
        await rebuilt(task, shown, refresh);
      } catch (error) {
        checked(done); // to publish it anyway
        throw error;
      }
    }), "primary");
    return fill(shown, qualityOf(done.result, file.name), columns,
      others.element, el("div", { class: "buttons" }, publish, isFeed ? null : discard));
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
function choiceOf(feeds, last, legend) {
  const chosen = checks(legend, feeds.map(({ name }) => [name, name]), [...namesOf(last)]);
  const force = check("Publish anyway, even if many rows are rejected or products lost", false);
  return {
    element: el("div", {}, feeds.length ? chosen.element : null, force.element),
    value: () => ({ feeds: chosen.value(), force: force.value() }),
  };
}

function rebuildOf(feeds, last, refresh) {
  const status = place();
  const shown = place();
  const choice = choiceOf(feeds, last, "Build the index from");
  const start = () => confirm("Build the index from these feeds and serve it?") && attempt(status, async () => {
    await rebuilt(await call("/v1/tasks", { method: "POST", body: { kind: "rebuild", ...choice.value(), map: last.map } }), shown, refresh);
  });
  return el("details", {}, el("summary", { text: "Rebuild without an upload" }), choice.element, el("div", { class: "buttons" }, button("Rebuild", start, "primary")), shown, status);
}

/** Follows a rebuild to its end; raises Error if it was not published. */
async function rebuilt({ id }, shown, refresh) {
  const over = await follow(id, shown);
  if (over.state !== "done") throw new Error(over.error || `The rebuild was ${over.state}.`);
  announce("The new version serves");
  await refresh();
}

function namesOf(last) {
  return new Set((last?.feeds || []).map(nameOf));
}

function feedsOf(feeds, last) {
  const read = namesOf(last);
  return table("Feeds", [
    ["feed", ({ name }) => name],
    ["size", (each) => bytes(each.bytes), true],
    ["changed", ({ modified }) => moment(modified)],
    ["in the index", ({ name, modified }) => {
      if (!read.has(name)) return "no";
      return new Date(modified) > new Date(last.created) ? el("span", { class: "tag preorder", text: "an earlier version" }) : el("span", { class: "tag in_stock", text: "yes" });
    }],
  ], feeds);
}

/** A quality report: scores, rejected rows, dropped values, and findings with examples. */
function qualityOf(report, of) {
  const file = ["file", ({ file: path }) => nameOf(path)];
  return [
    figures([["rows read", number(report.read)], ["products", number(report.products)], ["rows rejected", number(countOf(report.rejected))],
      ...report.scores.map(({ measure, score }) => [measure, percent(score)])]),
    rowsOf("Rejected rows", of, report.rejected, [file, ["problem", ({ reason, title }) => (title ? `${reason}: ${title}` : reason)]]),
    rowsOf("Dropped values", of, report.noted, [file, ["field and reason", ({ reason }) => reason], ["problem", ({ title }) => title]]),
    report.findings.length ? el("section", {}, el("h3", { text: "Findings" }), table(`Findings in ${of}`, [
      ["kind", ({ severity }) => el("span", { class: TAGS[severity], text: severity })],
      ["finding", ({ says, advice }) => [says, el("p", { class: "hint", text: advice })]],
      ["products", ({ count }) => number(count), true],
      ["share", (row) => percent(row.share), true],
      ["examples", examplesOf],
    ], report.findings)) : el("p", { text: "No rule found a problem." }),
  ];
}

function examplesOf({ examples }) {
  return el("details", {}, el("summary", { text: `${examples.length}` }), el("ul", {}, examples.map(({ file, line, id, title, value }) =>
    el("li", { text: `${nameOf(file)}, line ${number(line)}: ${id} ${title}${value ? ` (${value})` : ""}` }))));
}

/** The examples of rows by reason, as a table. */
function rowsOf(title, of, counts, columns) {
  const rows = Object.entries(counts).flatMap(([reason, { examples }]) => examples.map((each) => ({ ...each, reason })));
  const left = countOf(counts) - rows.length;
  return rows.length ? el("section", {}, el("h3", { text: `${title} (${number(countOf(counts))})` }), table(`${title} of ${of}`, [["line", ({ line }) => number(line), true], ...columns], rows),
    left > 0 ? el("p", { class: "hint", text: `${number(left)} more, for the same reasons.` }) : null) : null;
}

function countOf(counts) {
  return Object.values(counts).reduce((sum, { count }) => sum + count, 0);
}

function nameOf(path) {
  return path.split("/").at(-1);
}

function bytes(size) {
  return size < 1e6 ? `${number(size / 1e3, 1)} kB` : `${number(size / 1e6, 1)} MB`;
}
