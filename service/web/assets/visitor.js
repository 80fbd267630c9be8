// Who visits, and only where they agreed: two random names and what was looked at, in this browser.

import { timestamp } from "./clock.js";
import { browser, randomName } from "./storage.js";

const SESSION_MS = 30 * 60 * 1000;
const ORIGIN_MS = 24 * 60 * 60 * 1000;
const MOST_ACTS = 50;
const MOST_SEEN = 12;
const MOST_RECENT = 6;
const MOST_LETTERS = 200;

/** Whether the browser asks for privacy: then nobody is asked, and nothing is remembered. */
export function requestsPrivacy() {
  return navigator.globalPrivacyControl === true || navigator.doNotTrack === "1";
}

/** "yes", "no", or an empty text while it was not chosen. */
export function choice() {
  return requestsPrivacy() ? "no" : browser.read("consent", "");
}

export function mayRemember() {
  return choice() === "yes";
}

/** Takes down what was chosen; "no" forgets whatever was remembered. */
export function choose(agreed) {
  browser.write("consent", agreed ? "yes" : "no");
  if (!agreed) ["visitor", "session", "acts", "seen", "recent", "origins"].forEach(browser.remove);
}

/** The names that events carry; empty without consent. */
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

/** What this visitor did, oldest first, as searches and recommendations take it. Nothing of it is still to come, not
 * even where the clock was ahead: such a history is refused. */
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

/** Products that were looked at, newest first. */
export function seen() {
  return mayRemember() ? browser.read("seen", []) : [];
}

export function rememberSeen(productId) {
  if (mayRemember()) browser.write("seen", [productId, ...seen().filter((id) => id !== productId)].slice(0, MOST_SEEN));
}

/** Queries that were searched for, newest first; they stay in this browser. */
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

/** The answer by which a product was reached within a day, so that a basket is known to come of it. */
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

/** Those that still count, the oldest first: an object of its own accord has numbers in their order. */
function origins() {
  const found = Object.entries(browser.read("origins", {})).filter(([, { at }]) => Math.abs(Date.now() - at) < ORIGIN_MS);
  return found.sort(([, one], [, other]) => one.at - other.at);
}
