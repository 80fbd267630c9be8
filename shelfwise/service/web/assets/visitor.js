// The visitor's data in this browser, only with consent: two random ids, history and recent searches.

import { timestamp } from "./api.js";
import { browser, randomName } from "./storage.js";

const SESSION_MS = 30 * 60 * 1000;
const ORIGIN_MS = 24 * 60 * 60 * 1000;
const MOST_ACTS = 50;
const MOST_SEEN = 12;
const MOST_RECENT = 6;
const MOST_LETTERS = 200;

/** Whether the browser requests privacy; consent then counts as declined. */
export function requestsPrivacy() {
  return navigator.globalPrivacyControl === true || navigator.doNotTrack === "1";
}

/** "yes", "no", or an empty text if not decided. */
export function choice() {
  return requestsPrivacy() ? "no" : browser.read("consent", "");
}

export function mayRemember() {
  return choice() === "yes";
}

/** Stores the decision; "no" deletes all stored data. */
export function choose(agreed) {
  browser.write("consent", agreed ? "yes" : "no");
  if (!agreed) ["visitor", "session", "acts", "seen", "recent", "origins"].forEach(browser.remove);
}

/** The random ids that events contain; empty without consent. */
export function names() {
  if (!mayRemember()) return { shopper: "", session: "" };
  let shopper = browser.read("visitor");
  if (typeof shopper !== "string") browser.write("visitor", (shopper = randomName()));
  const now = Date.now();
  let session = browser.read("session");
  if (!session || Math.abs(now - session.seen) > SESSION_MS) session = { id: randomName() };
  browser.write("session", { id: session.id, seen: now });
  return { shopper, session: session.id };
}

/** The visitor's acts for searches and recommendations, oldest first. Times in the future (the clock was ahead) are
 * set to now, as the server refuses them. */
export function history() {
  const latest = timestamp();
  const acts = mayRemember() ? browser.read("acts", []) : [];
  return acts.map((act) => (act.at > latest ? { ...act, at: latest } : act));
}

export function remember(kind, productId) {
  if (!mayRemember()) return;
  const acts = history().filter((act) => act.product_id !== productId || act.kind !== kind);
  browser.write("acts", [...acts, { product_id: productId, kind, at: timestamp() }].slice(-MOST_ACTS));
}

/** Ids of viewed products, newest first. */
export function seen() {
  return mayRemember() ? browser.read("seen", []) : [];
}

export function rememberSeen(productId) {
  if (mayRemember()) browser.write("seen", [productId, ...seen().filter((id) => id !== productId)].slice(0, MOST_SEEN));
}

/** Recent queries, newest first; stored only in this browser. */
export function recentSearches() {
  return mayRemember() ? browser.read("recent", []) : [];
}

export function rememberSearch(query) {
  const text = query.trim().slice(0, MOST_LETTERS);
  const others = recentSearches().filter((each) => each.toLowerCase() !== text.toLowerCase());
  if (text && mayRemember()) browser.write("recent", [text, ...others].slice(0, MOST_RECENT));
}

export function forgetSearches() {
  browser.remove("recent");
}

/** The answer by which a product was reached within the last day, to attribute later acts to it. */
export function origin(productId) {
  const found = mayRemember() && origins().find(([id]) => id === productId);
  if (!found) return null;
  const { at, ...answer } = found[1];
  return answer;
}

export function rememberOrigin(productId, answer) {
  if (!mayRemember()) return;
  const others = origins().filter(([id]) => id !== productId);
  browser.write("origins", Object.fromEntries([...others, [productId, { ...answer, at: Date.now() }]].slice(-MOST_ACTS)));
}

/** The valid origins, oldest first; sorted, as an object puts numeric keys first. */
function origins() {
  const found = Object.entries(browser.read("origins", {})).filter(([, { at }]) => Math.abs(Date.now() - at) < ORIGIN_MS);
  return found.sort(([, one], [, other]) => one.at - other.at);
}
