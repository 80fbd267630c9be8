// Experiments: the list, a form, reports and stopping.

import { call } from "./api.js";
import { attempt, button, head, listPart, moment, percent, place, sure, table } from "./admin-ui.js";
import { el, fill } from "./dom.js";
import { experimentForm } from "./admin-experiment-form.js";
import { optionsOf, reportOf } from "./admin-experiment-report.js";

const STATES = ["running", "waiting", "draft", "ended", "stopped"];
const TAGS = { running: "tag in_stock", waiting: "tag preorder" };

export function experimentsPart(paths) {
  const { status, list, below, show, close, done } = listPart(() => refresh());
  const refresh = () => attempt(status, async () => {
    const { experiments, notices } = await call("/v1/experiments");
    const inOrder = experiments.sort((one, other) => STATES.indexOf(one.state) - STATES.indexOf(other.state));
    fill(list, notices.map((notice) => el("p", { class: "notice", text: notice })),
      inOrder.length ? tableOf(inOrder) : el("p", { text: "There are no experiments yet." }));
  });
  const tableOf = (experiments) => table("Experiments", [
    ["experiment", ({ experiment }) => el("div", {}, el("b", { text: experiment.id }), experiment.name ? ` ${experiment.name}` : null)],
    ["state", ({ state }) => el("span", { class: TAGS[state] || "tag", text: state })],
    ["from", ({ begins, state }) => (state === "draft" ? "" : moment(begins))],
    ["until", ({ over }) => moment(over)],
    ["mode", howOf],
    ["variants", ({ experiment }) => experiment.variants.map((each) => el("p", { text: `${each.name}: ${optionsOf(each)}` }))],
    ["", buttons],
  ], experiments);
  const buttons = ({ experiment, state }) => {
    const { id } = experiment;
    const path = `/v1/experiments/${encodeURIComponent(id)}`;
    const isOver = ["ended", "stopped"].includes(state);
    return el("div", { class: "buttons" },
      ["draft", "waiting"].includes(state) ? button("Edit", () => edit(experiment), "small", { "aria-label": `Edit ${id}` })
        : button("Report", () => attempt(status, async () => show(reportOf(await call(`${path}/report`), button("Close", close, "primary plain")))), "small", { "aria-label": `Report on ${id}` }),
      button("Copy", () => edit({ ...experiment, id: "", starts: undefined, ends: undefined }), "small", { "aria-label": `Copy ${id}` }),
      isOver ? null : button("Stop", () => sure(`Stop ${id} permanently? Its results are kept.`) && attempt(status, async () => {
        await call(`${path}/stop`, { method: "POST" });
        await done(`${id} is stopped`);
      }), "small", { "aria-label": `Stop ${id}` }));
  };
  const edit = (experiment) => attempt(status, async () => {
    const { rankers } = "/v1/models" in paths ? await call("/v1/models") : { rankers: [] };
    const names = rankers.filter(({ problem, misfit }) => !problem && !misfit).map(({ name }) => name);
    show(editorOf(experiment, names, async (id) => {
      close();
      await done(`${id} is saved`);
    }, close));
  });
  refresh();
  return [...head("Experiments", "Compares ways of ranking by shoppers' behaviour. A running experiment can be stopped but not changed."),
    el("div", { class: "buttons" }, button("New experiment", () => edit({ id: "" }), "primary")), status, list, below];
}

function howOf({ experiment: { mode = "split", unit = "shopper", share = 1 } }) {
  return `${mode} by ${unit}${share === 1 ? "" : ` of ${percent(share)}`}`;
}

function editorOf(experiment, rankers, saved, close) {
  const status = place();
  const form = experimentForm(experiment, rankers);
  const save = (event) => {
    event.preventDefault();
    form.clear();
    return attempt(status, async () => {
      try {
        const made = form.value();
        await call("/v1/experiments", { method: "PUT", body: made });
        await saved(made.id);
      } catch (error) {
        if (!form.showError(error)) throw error;
      }
    });
  };
  const title = experiment.id ? `Experiment ${experiment.id}` : "New experiment";
  return el("section", { "aria-label": "Editor" }, el("h2", { tabindex: "-1", text: title }),
    el("form", { class: "rule", onsubmit: save, novalidate: true }, form.element, status,
      el("div", { class: "buttons" }, el("button", { class: "primary", text: "Save" }), button("Close", close, "primary plain"))));
}
