// Tasks: start, progress, cancellation and result.

import { call } from "./api.js";
import { attempt, button, head, moment, number, place, sure, table } from "./admin-ui.js";
import { announce } from "./announce.js";
import { el, fill } from "./dom.js";

const EVERY_MS = 1500;
export const KINDS = {
  rebuild: "Rebuild of the index", check: "Check of a feed", refresh: "Counting of new events", learn: "Learning from events", forget: "Erasure of a shopper", move: "Replacement of all products",
};
const TAGS = { running: "tag preorder", done: "tag in_stock", failed: "tag out_of_stock" };
const CANCELLABLE = new Set(["rebuild", "refresh", "learn", "check"]);

export function tasksPart(paths) {
  const status = place();
  const list = place();
  const refresh = async () => {
    const tasks = await call("/v1/tasks");
    fill(list, tasks.length ? tableOf(tasks) : el("p", { text: "There are no tasks yet." }));
    if (tasks.some(isOpen)) setTimeout(() => list.isConnected && refresh().catch(() => {}), EVERY_MS);
  };
  const start = (path, text) => (path in paths ? button(text, () => attempt(status, async () => {
    await call(path, { method: "POST", body: path === "/v1/learn" ? {} : undefined });
    announce("The task is queued");
    await refresh();
  })) : null);
  const cancel = (task) => sure(`Cancel “${KINDS[task.kind]}”? What serves does not change.`) && attempt(status, async () => {
    await call(`/v1/tasks/${task.id}/cancel`, { method: "POST" });
    announce("The task is cancelled");
    await refresh();
  });
  const tableOf = (tasks) => table("Tasks", [
    ["task", (task) => [KINDS[task.kind] || task.kind, el("p", { class: "hint", text: argumentsOf(task) })]],
    ["state", ({ state }) => el("span", { class: TAGS[state] || "tag", text: state })],
    ["requested", ({ created }) => moment(created)],
    ["duration", durationOf, true],
    ["", outcomeOf],
    ["", (task) => (isOpen(task) && CANCELLABLE.has(task.kind) ? button("Cancel", () => cancel(task), "small", { "aria-label": `Cancel ${KINDS[task.kind]}` }) : "")],
  ], tasks);
  attempt(status, refresh);
  return [...head("Tasks", "Long tasks run here one after another, with a lower priority than searches. They continue when this page is closed."),
    el("div", { class: "buttons" }, start("/v1/events/refresh", "Count new events"), start("/v1/learn", "Learn from events")), status, list];
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
