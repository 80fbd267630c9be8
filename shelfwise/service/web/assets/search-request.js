// A search of the store page: hits, and counts of the other values of each filtered field.

import { filteredFields, filtersOf, quoted } from "./address.js";
import { api } from "./api.js";
import { recordSearch } from "./events.js";
import { history, names } from "./visitor.js";
import { language } from "./words.js";

/** Maximum number of values of a facet. */
const MAX_VALUES = 1000;
const MAX_CACHED = 30;
/** Maximum number of fields proposed as filters for a broad query. */
const MAX_CHOICES = 3;
const cache = new Map();

/** The results for a place: `answer` with its hits, `facets` by field. Recent results are cached.
 * The server records a search with the visitor's names; a search while typing has none. */
export async function search(place, address, facts, { signal, isTyping }) {
  const who = isTyping ? {} : names();
  const fields = filteredFields(place);
  const whole = {
    q: place.q,
    page: place.page,
    size: place.size,
    sort: place.sort,
    prefix: isTyping,
    group: "variants",
    all_types: place.allTypes,
    filters: filtersOf(place),
    facets: ["category", ...facts.facets],
    facet_values: MAX_VALUES,
    choices: place.page === 1 && !isTyping ? MAX_CHOICES : 0,
    history: history(),
    reasons: facts.look.has_reasons ? language() : "",
    ...who,
  };
  // The other values of a filtered field are counted without its filter.
  const others = fields.map((field) => counting(place, field, isTyping));
  const { results } = await api.searches([whole, ...others], signal);
  if (who.shopper) recordSearch(results[0]);
  const facets = { ...results[0].facets };
  fields.forEach((field, index) => (facets[field] = results[index + 1].facets[field] || facets[field]));
  const found = { answer: results[0], facets };
  cache.delete(address);
  cache.set(address, found);
  if (cache.size > MAX_CACHED) cache.delete(cache.keys().next().value);
  return found;
}

/** A search that counts the values of a field among the hits without the filter of that field. */
function counting(place, field, isTyping = false) {
  const { q, sort, allTypes } = place;
  const counted = { filters: filtersOf(place, field), facets: [field], facet_values: MAX_VALUES };
  return { q, sort, prefix: isTyping, all_types: allTypes, group: "variants", size: 0, ...counted };
}

/** The products with these ids. */
export async function productsOf(ids, signal) {
  if (!ids.length) return [];
  const { results } = await api.searches([{ q: "", size: ids.length, filters: `id IN (${ids.map(quoted).join(", ")})` }], signal);
  return results[0].hits.map((hit) => hit.product);
}

/** The cached results of an address. */
export function cachedResults(address) {
  return cache.get(address);
}
