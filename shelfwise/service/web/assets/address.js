// Conversion between addresses and what the page shows, so that back, forward, reload and bookmarks work.

/** Address prefix of a store if there are several, such as "/stores/shop-zh"; else empty. */
export const BASE = /^\/stores\/[^/]+(?=\/)/.exec(globalThis.location?.pathname || "")?.[0] || "";
const MAX_VALUES = 50;
/** Page sizes that a visitor can choose; the first is the default. */
export const SIZES = [24, 48, 96];

/** Fields filtered by a range of both ends, not by values. */
const RANGES = ["price", "rating"];
/** Prefix of fields that a search can propose even if they are no facets of the store. */
const ATTRIBUTE = "attributes.";

/** The place of all products: `selected` are values and `within` ranges ([low, high], null for no bound) by field. */
export const ALL = { view: "search", q: "", category: "", selected: {}, within: {}, sort: "", allTypes: false, size: SIZES[0], page: 1 };

/** A path with parameters; lists are repeated, empty values are omitted. */
export function withParameters(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") query.append(name, one);
    }
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** The place of an address: view, query, page, order and filters. `facets` are the store's facet fields. */
export function placeOf(address, facets) {
  const parameters = new URLSearchParams(address);
  const text = (name) => parameters.get(name) || "";
  const page = Number.parseInt(text("page") || "1", 10);
  const place = {
    ...ALL, q: text("q").slice(0, 1000), category: text("category"), selected: {}, within: {}, sort: text("sort"), allTypes: text("types") === "all",
    size: SIZES.find((size) => String(size) === text("size")) || SIZES[0], page: page > 0 && page <= 1000 ? page : 1,
  };
  const others = [...parameters.keys()].filter((name) => name.startsWith(ATTRIBUTE)).slice(0, MAX_VALUES);
  for (const field of new Set([...RANGES, ...facets, ...others])) {
    const values = parameters.getAll(field).slice(0, MAX_VALUES);
    const range = values.map(rangeOf).find(Boolean);
    if (range) place.within[field] = range;
    else if (values.length && !RANGES.includes(field)) place.selected[field] = [...new Set(values)];
  }
  if (text("product")) return { ...place, view: "product", product: text("product") };
  if (text("show") === "basket") return { ...place, view: "basket" };
  return isSearch(place) || parameters.has("all") ? place : { ...place, view: "home" };
}

/** The address of a place. */
export function addressOf({ view, product, ...place }) {
  if (view === "product") return withParameters(`${BASE}/`, { product });
  if (view === "basket") return `${BASE}/?show=basket`;
  const { q, category, selected, within, sort, allTypes, size, page } = place;
  const ranges = Object.entries(within).map(([field, [low, high]]) => [field, `${low ?? ""}..${high ?? ""}`]);
  return withParameters(`${BASE}/`, {
    q, category, ...selected, ...Object.fromEntries(ranges), sort, types: sort && allTypes ? "all" : "", all: view === "search" && !isSearch(place) ? 1 : "",
    size: size > SIZES[0] ? size : "", page: page > 1 ? page : "",
  });
}

function isSearch(place) {
  return Boolean(place.q.trim() || place.sort || isNarrowed(place));
}

export function isNarrowed({ category, selected, within }) {
  return Boolean(category || Object.keys({ ...selected, ...within }).length);
}

/** The same search without filters. */
export function widened(place) {
  return { ...place, category: "", selected: {}, within: {}, page: 1 };
}

/** The same search with other values of a field, or without a filter for it if there are none. */
export function withValues(place, field, values) {
  const { [field]: _old, ...others } = place.selected;
  return { ...place, selected: values.length ? { ...others, [field]: values } : others, page: 1 };
}

/** The same search with another range of a field, or without a filter for it if the range has no bound. */
export function withRange(place, field, [low, high]) {
  const { [field]: _old, ...others } = place.within;
  return { ...place, within: (low ?? high) === null ? others : { ...others, [field]: [low, high] }, page: 1 };
}

/** The fields by which a place filters, except the category and ranges of attributes. */
export function filteredFields({ selected, within }) {
  return [...Object.keys(selected), ...RANGES.filter((field) => field in within)];
}

/** The filters as an expression of the API; `without` omits one field, to count its other values. */
export function filtersOf(place, without = "") {
  const parts = place.category ? [`category = ${quoted(place.category)}`] : [];
  for (const [field, [low, high]] of Object.entries(place.within).filter(([name]) => name !== without)) {
    if (low !== null) parts.push(`${quoted(field)} >= ${low}`);
    if (high !== null) parts.push(`${quoted(field)} ${RANGES.includes(field) ? "<=" : "<"} ${high}`);
  }
  for (const [field, values] of Object.entries(place.selected).filter(([name]) => name !== without)) {
    parts.push(`${quoted(field)} IN (${values.map(quoted).join(", ")})`);
  }
  return parts.join(" AND ");
}

/** A value quoted for a filter expression. */
export function quoted(text) {
  return `"${text.replace(/[\\"]/g, "\\$&")}"`;
}

/** The bounds of a range of numbers such as "12..20"; null for other texts. */
function rangeOf(text) {
  const found = /^(-?\d{1,12}(?:\.\d{1,6})?)?\.\.(-?\d{1,12}(?:\.\d{1,6})?)?$/.exec(text);
  return found && (found[1] || found[2]) ? [found[1], found[2]].map((part) => (part === undefined ? null : Number(part))) : null;
}
