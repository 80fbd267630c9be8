// One search as the page needs it: the hits, and for each filter what else could be chosen there.

import { filtersOf } from "./address.js";
import { api } from "./api.js";
import { noteAsked } from "./events.js";
import { history, names } from "./visitor.js";

const PAGE_SIZE = 24;
const MOST_KEPT = 30;
const kept = new Map();

/** The answer to a place: `answer` with its hits, `facets` by field. Answers that were there are there again at once.
 * The server records a search that tells who asks; one that may change with the next letter tells it not. */
export async function ask(place, address, facts, { signal, isTyping }) {
  const who = isTyping ? {} : names();
  const fields = Object.keys(place.chosen);
  const whole = {
    q: place.q,
    page: place.page,
    size: PAGE_SIZE,
    sort: place.sort,
    filters: filtersOf(place),
    facets: ["category", ...facts.facets],
    history: history(),
    ...who,
  };
  // A brand that is chosen must not hide the others: they are counted as if none were.
  const others = fields.map((field) => ({ q: place.q, size: 0, filters: filtersOf(place, field), facets: [field] }));
  const { results } = await api.searches([whole, ...others], signal);
  if (who.shopper) noteAsked(results[0]);
  const facets = { ...results[0].facets };
  fields.forEach((field, index) => (facets[field] = results[index + 1].facets[field] || facets[field]));
  const found = { answer: results[0], facets };
  kept.delete(address);
  kept.set(address, found);
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  return found;
}

/** What was answered to an address before, if it still is at hand. */
export function answered(address) {
  return kept.get(address);
}
