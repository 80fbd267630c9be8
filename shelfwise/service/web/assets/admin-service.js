// The service itself: tasks, versions of the index, and health.

import { call } from "./api.js";
import { button, counts, figures, head, listPart, moment, notice, number, table, tag } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const EVERY_MS = 1500;
const KINDS = {
  rebuild: "Rebuild of the index", check: "Check of a feed", refresh: "Counting of new events", learn: "Learning from events", forget: "Erasure of a shopper", move: "Replacement of all products",
};
const TAGS = { running: "preorder", done: "in_stock", failed: "out_of_stock" };
const CANCELLABLE = new Set(["rebuild", "refresh", "learn", "check"]);
export function tasksPart() {
  const part = listPart(async ({ list }) => {
    const tasks = await call("/v1/tasks");
    fill(list, tasks.length ? table("Tasks", [
      ["task", (task) => [KINDS[task.kind] || task.kind, el("p", { class: "hint", text: argumentsOf(task) })]],
      ["state", ({ state }) => tag(state, TAGS)],
      ["requested", ({ created }) => moment(created)],
      ["duration", durationOf, true],
      ["", outcomeOf],
      ["", (task) => (isOpen(task) && CANCELLABLE.has(task.kind) ? part.act("Cancel", KINDS[task.kind], [`/v1/tasks/${task.id}/cancel`, "POST"], "The task is cancelled", `Cancel “${KINDS[task.kind]}”? What serves does not change.`) : "")],
    ], tasks) : el("p", { text: "There are no tasks yet." }));
    if (tasks.some(isOpen)) setTimeout(() => list.isConnected && part.load().catch(() => {}), EVERY_MS);
  });
  const start = (kind, text) => button(text, () => part.change("/v1/tasks", { method: "POST", body: { kind } }, "The task is queued"));
  return [...head("Tasks", "Long tasks run here one after another, with a lower priority than searches. They continue when this page is closed."),
    el("div", { class: "buttons" }, start("refresh", "Count new events"), start("learn", "Learn from events")), part.status, part.list];
}

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

function argumentsOf({ arguments: given }) {
  return [...(given.feeds || []), given.feed, given.force ? "even if many products are lost" : ""].filter(Boolean).join(", ");
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
  const parts = [task.progress ? el("pre", { class: "said", text: task.progress.trim() }) : null, pairs.length ? el("p", { text: pairs.map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? number(value, 2) : value}`).join(", ") }) : null];
  return parts.some(Boolean) ? el("details", {}, el("summary", { text: "Result" }), parts) : "";
}

export function versionsPart() {
  const part = listPart(async ({ list }) => {
    const versions = (await call("/v1/versions")).reverse();
    fill(list, table("Versions", [
      ["version", ({ version }) => version],
      ["", (each) => stateOf(each)],
      ["built", ({ created }) => moment(created)],
      ...counts("products"),
      ["changed", ({ changes }) => Object.entries(changes || {}).filter(([, count]) => typeof count === "number" && count).map(([name, count]) => `${number(count)} ${name}`).join(", ")],
      ["encoder", ({ encoder_name: name }) => name],
      ["size", ({ bytes }) => `${number(bytes / 1e6, 1)} MB`, true],
      ["", ({ version, serves, problem }) => (serves || problem ? "" : part.act("Serve", version, ["/v1/versions/rollback", "POST", { name: version }], `${version} serves`, `Serve ${version}?`))],
    ], versions));
  });
  return [...head("Versions", "Each rebuild creates a version. Live changes are kept whichever version serves."), part.status, part.list];
}

/** A tag for the serving version or model, or the reason why one cannot serve; else the text `otherwise`. */
export function stateOf({ serves, problem, misfit }, otherwise = "") {
  if (serves) return tag("serves", { serves: "in_stock" });
  if (problem || misfit) return el("span", { class: "tag out_of_stock", text: problem || misfit });
  return otherwise;
}

export function healthPart() {
  const part = listPart(async ({ list }) => {
    const health = await call("/health/ready");
    fill(list, figures([["state", health.status], ["version", health.version], ["products", number(health.products)], ["ranker", health.ranker || "none"]]),
      health.notices.map(notice));
  });
  return [...head("Health"), el("div", { class: "buttons" }, button("Refresh", part.refresh)), part.status, part.list];
}
