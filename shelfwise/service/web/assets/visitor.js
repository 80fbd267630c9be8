// The visitor's data in this browser, only with consent: two random ids, history and recent searches.

import { timestamp } from "./api.js";
import { browser, randomName } from "./storage.js";

const SESSION_MS = 30 * 60 * 1000;
const ORIGIN_MS = 24 * 60 * 60 * 1000;
const MAX_ACTS = 50;
const MAX_SEEN = 12;
const MAX_RECENT = 6;
const MAX_LETTERS = 200;

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

/** A stored list, newest first; empty without consent. */
function stored(name) {
  const list = mayRemember() ? browser.read(name, []) : [];
  return Array.isArray(list) ? list : [];
}

/** Puts an entry first in a stored list of at most `max` entries, instead of those that `isSame` finds. */
function store(name, entry, isSame, max) {
  if (mayRemember()) browser.write(name, [entry, ...stored(name).filter((each) => !isSame(each))].slice(0, max));
}

/** The visitor's acts for searches and recommendations, oldest first. Times in the future (the clock was ahead) are
 * set to now, as the server refuses them. */
export function history() {
  const latest = timestamp();
  return stored("acts").map((act) => (act.at > latest ? { ...act, at: latest } : act)).toReversed();
}

export function remember(kind, productId) {
  store("acts", { product_id: productId, kind, at: timestamp() }, (act) => act.product_id === productId && act.kind === kind, MAX_ACTS);
}

/** Ids of viewed products, newest first. */
export function seen() {
  return stored("seen");
}

export function rememberSeen(productId) {
  store("seen", productId, (id) => id === productId, MAX_SEEN);
}

/** Recent queries, newest first; stored only in this browser. */
export function recentSearches() {
  return stored("recent");
}

export function rememberSearch(query) {
  const text = query.trim().slice(0, MAX_LETTERS);
  if (text) store("recent", text, (each) => each.toLowerCase() === text.toLowerCase(), MAX_RECENT);
}

export function forgetSearches() {
  browser.remove("recent");
}

/** The answer by which a product was reached within the last day, to attribute later acts to it. */
export function origin(productId) {
  return stored("origins").find(({ id, at }) => id === productId && Math.abs(Date.now() - at) < ORIGIN_MS)?.answer;
}

export function rememberOrigin(productId, answer) {
  store("origins", { id: productId, answer, at: Date.now() }, ({ id }) => id === productId, MAX_ACTS);
}
