// The admin page: the key, and its parts.

import { BASE } from "./address.js";
import { call, useKey } from "./api.js";
import { analyticsPart } from "./admin-analytics.js";
import { answersPart, experimentsPart, relevancePart, rulesPart, sponsoredPart, synonymsPart } from "./admin-documents.js";
import { productsPart, searchPart } from "./admin-search.js";
import { feedsPart, healthPart, keysPart, modelsPart, tasksPart, versionsPart } from "./admin-service.js";
import { field, head, lineForm } from "./admin-ui.js";
import { el, fill } from "./dom.js";

/** The parts by the addresses of their tabs. */
const PARTS = {
  search: searchPart, analytics: analyticsPart,
  rules: rulesPart, synonyms: synonymsPart, relevance: relevancePart, answers: answersPart, sponsored: sponsoredPart, experiments: experimentsPart,
  products: productsPart,
  feeds: feedsPart, versions: versionsPart, models: modelsPart, tasks: tasksPart, keys: keysPart, health: healthPart,
};
const view = document.getElementById("view");
const menu = document.getElementById("menu"); // on narrow pages, which have no room for the names of all parts
const tabs = document.getElementById("tabs");
let isValid = false; // whether the key is

/** Shows the part in the address. */
function show() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const all = [...tabs.children];
  const current = all.find(({ hash }) => hash === `#${name}`) || all[0];
  for (const each of all) each.ariaCurrent = each === current ? "page" : null;
  for (const each of [menu, tabs]) each.hidden = false;
  menu.textContent = current.text;
  menu.ariaExpanded = "false";
  document.title = `${current.text} · Shelfwise admin`;
  fill(view, PARTS[current.hash.slice(1)](decodeURIComponent(rest.join("/")))); // the address of a product contains its id
  document.getElementById("view-title").focus({ preventScroll: true });
}

/** Prompts for a key, which is stored until the tab is closed. */
function askKey(message = "") {
  const key = field("Key with the scope admin", { type: "password", required: true, wide: true });
  const take = async () => {
    sessionStorage.setItem("shelfwise.admin-key", key.value());
    await open();
  };
  for (const each of [menu, tabs]) each.hidden = true;
  fill(view, head("This page needs a key", "Open the link that shelfwise serve printed at its start. Or enter a key (shelfwise keys create INDEX admin --scope admin) or the token in INDEX/admin.token; it is stored only in this tab."),
    message ? el("p", { class: "notice faults", role: "alert", text: message }) : null,
    lineForm(el("div"), take, "Use this key", [key]));
  key.input.focus();
}

/** The page's index, if there are several; if it does not exist, the page lists all indexes. */
async function indexOf(base) {
  const indexes = await call("/v1/indexes");
  const others = el("nav", { class: "line", "aria-label": "Indexes" }, indexes.map(({ name }) => el("a", { href: `/stores/${encodeURIComponent(name)}/admin`, text: name })));
  const found = indexes.find(({ name }) => `/stores/${encodeURIComponent(name)}` === base);
  if (!found) fill(view, head("Indexes", "Each index has its own admin page."), others);
  return found;
}

async function open() {
  const key = sessionStorage.getItem("shelfwise.admin-key") || "";
  useKey(key);
  try {
    const health = await call("/health/ready");
    const own = health.indexes > 1 || BASE ? await indexOf(BASE) : health;
    if (!own) return undefined;
    document.getElementById("serving").textContent = [own.name, own.version, `${own.products.toLocaleString("en")} products`].filter(Boolean).join(" · ");
    await call("/v1/versions"); // fails without the scope admin
    isValid = true;
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      if (error.status === 401) sessionStorage.removeItem("shelfwise.admin-key"); // the cookie may still be valid
      return askKey(key || error.code === "other_page" ? error.message : "");
    }
    return fill(view, el("p", { class: "notice faults", role: "alert", text: error.message }));
  }
  return show();
}

document.getElementById("key").addEventListener("click", () => askKey());
menu.addEventListener("click", () => (menu.ariaExpanded = String(menu.ariaExpanded === "false")));
addEventListener("hashchange", () => isValid && location.hash !== "#view" && show());
open();
