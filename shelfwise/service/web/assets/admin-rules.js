// Merchandising rules: a list, an editor with preview, and the restoration of revisions.

import { call } from "./api.js";
import { attempt, button, field, head, historyOf, listPart, moment, number, place, sure, table } from "./admin-ui.js";
import { el, fill } from "./dom.js";
import { goalsOf } from "./admin-exposure.js";
import { ruleForm } from "./admin-rule-form.js";

export function rulesPart() {
  const { status, list, below, show, close, done } = listPart(() => refresh());
  const past = place();
  const refresh = () => attempt(status, async () => {
    const { rules, faults, exposure_goals: goals } = await call("/v1/rules");
    fill(list, rules.length ? tableOf(rules, faults) : el("p", { text: "There are no rules yet." }), goalsOf(goals));
    const { changes } = await call("/v1/rules/history?limit=20");
    fill(past, changes.length ? historyOf(changes, columns, question, restore) : null);
  });
  const tableOf = (rules, faults) => table("Rules", [
    ["rule", (rule) => el("div", {}, el("b", { text: rule.id }), rule.name ? ` ${rule.name}` : null,
      faults[rule.id] ? el("p", { class: "faults", text: faults[rule.id] }) : null)],
    ["when", whenOf],
    ["actions", (rule) => rule.actions.map(({ kind }) => kind).join(", ")],
    ["priority", (rule) => number(rule.priority ?? 0), true],
    ["", (rule) => buttons(rule)],
  ], rules);
  const buttons = (rule) => {
    const isOn = rule.enabled !== false;
    const path = `/v1/rules/${encodeURIComponent(rule.id)}`;
    return el("div", { class: "buttons" },
      button("Edit", () => edit(rule), "small", { "aria-label": `Edit ${rule.id}` }),
      button(isOn ? "Switch off" : "Switch on", () => attempt(status, async () => {
        await call(path, { method: "PATCH", body: { enabled: !isOn } });
        await done(isOn ? `${rule.id} is off` : `${rule.id} is on`);
      }), "small", { "aria-label": `Switch ${isOn ? "off" : "on"} ${rule.id}` }),
      button("Remove", () => sure(`Remove ${rule.id}? Its history is kept.`) && attempt(status, async () => {
        await call(path, { method: "DELETE" });
        await done(`${rule.id} was removed`);
      }), "small", { "aria-label": `Remove ${rule.id}` }));
  };
  const columns = [["rule", ({ id }) => id], ["", ({ before, after }) => (!before ? "added" : !after ? "removed" : "changed")]];
  const restore = (revision) => attempt(status, async () => {
    await call("/v1/rules/restore", { method: "POST", body: { revision } });
    await done(`Rules of revision ${revision} are restored`);
  });
  const question = (revision) => `Restore all rules of revision ${revision}?`;
  const edit = (rule) => show(editorOf(rule, async (text) => {
    close();
    await done(text);
  }, close));
  refresh();
  return [...head("Rules", "Rules apply as soon as they are saved. Try one on a search first."),
    el("div", { class: "buttons" }, button("New rule", () => edit({ id: "", when: {}, actions: [] }), "primary")), status, list, below, past];
}

function whenOf({ when = {}, enabled }) {
  const parts = [when.query ? `${when.match} “${when.query}”` : "any query", when.filters, when.contexts && `in ${when.contexts.join(" or ")}`, when.starts && `from ${moment(when.starts)}`, when.ends && `until ${moment(when.ends)}`];
  return (enabled === false ? "off; " : "") + parts.filter(Boolean).join("; ");
}

function editorOf(rule, saved, close) {
  const status = place();
  const preview = place();
  const form = ruleForm(rule);
  const query = field("Try it on", { value: rule.when?.query || "", placeholder: "a query", wide: true });
  const tryIt = (event) => {
    event.preventDefault();
    attempt(status, async () => {
      const changed = form.value();
      query.input.value ||= changed.when?.query || "";
      const body = { q: query.input.value, put: [changed], size: 20 };
      fill(preview, previewOf(await call("/v1/rules/preview", { method: "POST", body })));
    });
  };
  const save = () => attempt(status, async () => {
    await call("/v1/rules", { method: "PUT", body: { rules: [form.value()] } });
    await saved("The rule is saved");
  });
  return el("section", { "aria-label": "Editor" }, el("h2", { tabindex: "-1", text: rule.id ? `Rule ${rule.id}` : "New rule" }), form.element, status,
    el("form", { class: "line", onsubmit: tryIt }, query.element, el("button", { class: "small", text: "What would this change?" })), preview,
    el("div", { class: "buttons" }, button("Save", save, "primary"), button("Close", close, "primary plain")));
}

/** The effect of a change on a result page. */
export function previewOf(found) {
  const rows = [...found.gained, ...found.moved, ...found.lost];
  const counts = `${number(found.total_before)} products before, ${number(found.total_after)} after.`;
  if (!rows.length) return el("p", { role: "status", text: `The first 20 hits do not change. ${counts}` });
  return [el("p", { role: "status", text: counts }), table("What would change", [
    ["product", ({ title, product }) => title || product],
    ["type", ({ product_type: type }) => type],
    ["place before", ({ before }) => number(before), true],
    ["place after", ({ after }) => number(after), true],
    ...(rows.some(({ rule }) => rule) ? [["by rule", ({ rule }) => rule]] : []),
  ], rows)];
}
