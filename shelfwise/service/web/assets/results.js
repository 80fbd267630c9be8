// The results view: filters, notices, hits and pages. It is updated in place, so nothing jumps while typing.

import { SIZES, addressOf, filtersOf, isNarrowed, productAddress, withRange, withValues } from "./address.js";
import { api } from "./api.js";
import { errorNotice, grid, skeletons, sponsoredStrip } from "./cards.js";
import { ICONS, announceCount, el, fill, icon, keepFocus, webUrl } from "./dom.js";
import { activeFilters, chips, choices, facetGroups } from "./facets.js";
import { answerBox } from "./answers.js";
import { popularRows } from "./home.js";
import { history, names, noteClick, noteReached, noteShown, recorded } from "./visitor.js";
import { language, number, t } from "./words.js";

const LOOKED_AT_MS = 1500;
/** Maximum number of values of a facet. */
const MAX_VALUES = 1000;
/** Maximum number of fields proposed as filters for a broad query. */
const MAX_CHOICES = 3;
const MAX_CACHED = 30;
const cache = new Map();
const WIDE = matchMedia("(min-width: 900px)");
WIDE.addEventListener("change", () => document.querySelector(".filters")?.toggleAttribute("open", WIDE.matches));

/** The view of search results. `shop` has `facts` and `go(place)`; `show` sets the place. */
export function resultsView(shop) {
  const head = el("h1", { id: "view-title", tabindex: "-1", text: "\u00a0" });
  const change = (changed) => shop.go({ ...place, ...changed, page: 1 });
  const sorts = ["", ...shop.facts.sorts.flatMap((field) => (field === "price" ? ["price", "-price"] : [`-${field}`]))];
  const sort = el("select", { id: "sort", onchange: () => change({ sort: sort.value }) }, sorts.map((each) => el("option", { value: each, text: t(`sort.${each}`) })));
  const summary = el("summary", {}, icon(ICONS.filter), el("span", { text: t("filters") }));
  const groups = el("div", { class: "groups" });
  const fold = () => {
    filters.open = false;
    head.focus();
  };
  const done = el("button", { type: "button", class: "primary done", onclick: fold });
  const filters = el("details", { class: "filters", open: WIDE.matches }, summary, groups, done);
  const chosen = el("div", { class: "chosen" });
  const narrowing = el("nav", { class: "narrowing", "aria-label": t("narrow") });
  const notices = el("div", { class: "notices" });
  const sponsored = el("div");
  const answered = answerBox();
  const hits = el("div", { class: "hits" }, skeletons(12));
  const size = el("select", { id: "size", "aria-label": t("per page"), onchange: () => change({ size: Number(size.value) }) }, SIZES.map((each) => el("option", { value: each, text: t("hits per page", { size: number(each) }) })));
  const order = el("div", { class: "order" }, el("label", { for: "sort", text: t("sort") }), sort, size);
  const element = el("div", { class: "results" }, el("div", { class: "results-head" }, head, order),
    el("aside", { "aria-label": t("filters") }, filters), el("section", { class: "found", "aria-labelledby": "view-title" }, answered, chosen, narrowing, notices, sponsored, hits));
  let place = null;
  let request = new AbortController();
  let looking = 0;

  const render = ({ answer, facets }, start, isTyping) => {
    head.textContent = titleOf(place, answer);
    sort.value = place.sort;
    size.value = String(place.size);
    const { length } = activeFilters(place);
    summary.lastChild.textContent = t(length ? "filters chosen" : "filters", { count: length });
    done.textContent = t("show results", { count: answer.total });
    keepFocus(element, () => {
      fill(groups, facetGroups(place, facets, { fields: shop.facts.facets, isForeign: shop.isForeign }, shop.go));
      fill(chosen, chips(place, shop.go));
      fill(narrowing, choices(place, answer));
    });
    fill(notices, noticesOf(place, answer, shop));
    fill(sponsored, sponsoredStrip(answer.sponsored));
    fill(hits, answer.hits.length ? [hitGrid(place, answer, answer.hits), pager(place, answer)] : nothing(place), offers(place, answer), answer.hits.length ? null : el("div", { class: "none" }, start && popularRows(start)));
    element.removeAttribute("aria-busy");
    performance.mark("results", { detail: place.q });
    announceCount(head.textContent);
    clearTimeout(looking);
    answered.show(isTyping ? "" : place.q);
    looking = setTimeout(noteShown, isTyping ? LOOKED_AT_MS : 0, answer);
  };

  return {
    element,
    content: hits,
    /** Shows a place; resolves when it is shown. `isTyping` while more input may come, `isBack` for a place shown before. */
    async show(next, { isTyping = false, isBack = false } = {}) {
      place = next;
      request.abort();
      clearTimeout(looking);
      request = new AbortController();
      const { signal } = request;
      const address = addressOf(place);
      const cached = isBack && cache.get(address);
      element.setAttribute("aria-busy", "true");
      try {
        // Categories in other languages must be known before they are shown.
        const [found, start] = await Promise.all([cached || search(place, address, shop.facts, { signal, isTyping }), shop.start().catch(() => null)]);
        if (!signal.aborted) render(found, start, isTyping);
        return found.answer;
      } catch (error) {
        if (signal.aborted) return undefined;
        element.removeAttribute("aria-busy");
        head.textContent = t("results");
        for (const each of [chosen, narrowing, notices, sponsored]) fill(each);
        throw error;
      }
    },
    leave() {
      request.abort();
      answered.leave();
      clearTimeout(looking);
    },
  };
}

/** The results for a place: `answer` with its hits, `facets` by field. Recent results are cached.
 * The server records a search with the visitor's names; a search while typing has none. */
async function search(place, address, facts, { signal, isTyping }) {
  const who = isTyping ? {} : names();
  const common = { q: place.q, sort: place.sort, prefix: isTyping, group: "variants", all_types: place.allTypes, facet_values: MAX_VALUES };
  const whole = {
    ...common,
    page: place.page,
    size: place.size,
    filters: filtersOf(place),
    facets: ["category", ...facts.facets],
    choices: place.page === 1 && !isTyping ? MAX_CHOICES : 0,
    history: history(),
    reasons: facts.look.has_reasons ? language : "",
    ...who,
  };
  // The other values of a filtered field are counted without its filter.
  const fields = facts.facets.filter((field) => field in place.filters);
  const others = fields.map((field) => ({ ...common, size: 0, filters: filtersOf(place, field), facets: [field] }));
  const { results: [answer, ...counts] } = await api.searches([whole, ...others], signal);
  if (who.shopper) recorded.add(answer.query_id);
  const facets = Object.assign({}, answer.facets, ...counts.map((each) => each.facets));
  const found = { answer, facets };
  cache.delete(address);
  cache.set(address, found);
  if (cache.size > MAX_CACHED) cache.delete(cache.keys().next().value);
  return found;
}

const BY_PICTURE = 24;
const SENT_BYTES = 500_000;
const SENT_SIDE = 640;

/** The picture in a file, scaled down for upload; the file itself if the browser cannot read it, so that the server reports why. */
async function smallPicture(file) {
  if (file.size <= SENT_BYTES) return file;
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(1, SENT_SIDE / Math.max(image.width, image.height));
    const canvas = new OffscreenCanvas(Math.ceil(image.width * scale), Math.ceil(image.height * scale));
    const paper = Object.assign(canvas.getContext("2d"), { fillStyle: "white", imageSmoothingQuality: "high" });
    paper.fillRect(0, 0, canvas.width, canvas.height);
    paper.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
  } catch {
    return file;
  }
}

/** The view of products that look like the picture in a file. */
export function pictureView(file) {
  const head = el("h1", { id: "view-title", tabindex: "-1", text: t("like your picture") });
  const found = el("div", { class: "hits" }, skeletons(12));
  const shown = el("img", { class: "your-picture", alt: t("your picture"), hidden: true });
  const reader = new FileReader();
  reader.addEventListener("load", () => (shown.src = reader.result));
  shown.addEventListener("load", () => (shown.hidden = false));
  reader.readAsDataURL(file);
  const element = el("div", { class: "by-picture" }, el("div", { class: "results-head" }, head), shown, found);
  const show = async () => {
    try {
      const hits = await api.byPicture(await smallPicture(file), BY_PICTURE);
      fill(found, grid(hits, { level: "h2" }));
      announceCount(head.textContent);
    } catch (error) {
      const isRefused = error.status === 400 || error.status === 413;
      if (isRefused) shown.remove();
      fill(found, errorNotice(error, isRefused ? () => document.querySelector("#search .camera").click() : show));
    }
  };
  return { element, show };
}

function offers(place, answer) {
  const text = t(answer.hits.length ? "nearest beside" : "nearest");
  return answer.nearest.length ? [el("p", { class: "notice", text }), hitGrid(place, answer, answer.nearest, answer.hits.length)] : [];
}

/** A grid of hits; `before` hits precede it on the page. */
function hitGrid(place, answer, hits, before = 0) {
  const first = (answer.page - 1) * answer.size + before + 1;
  const onchoose = (hit, index) => noteClick(answer, hit, first + index);
  const onadd = (hit, index) => noteReached(answer, hit, first + index);
  const more = (hit, index) => {
    if (!hit.siblings.length || !answer.total) return null;
    return el("a", { class: "more", href: productAddress(hit.product.id), onclick: () => onchoose(hit, index), text: t("variants of", { count: hit.group_size }) });
  };
  return grid(hits, { onchoose, onadd, more, level: "h2" });
}

function titleOf(place, answer) {
  const query = place.q.trim();
  const [category] = place.filters.category || [];
  if (!query) return `${category ? `${category.split(" > ").at(-1)} · ` : ""}${t("found", { count: answer.total })}`;
  if (!answer.total) return t("found none", { query });
  return t(answer.doubtful ? "found like" : "found for", { count: answer.total, query });
}

function noticesOf(place, answer, shop) {
  const made = [];
  const searchFor = (q) => el("a", { href: addressOf({ ...place, q, page: 1 }), text: q });
  if (answer.suggestion && answer.corrected) made.push([t("showing instead", { query: place.q.trim() }), " ", searchFor(answer.suggestion)]);
  else if (answer.suggestion) made.push([t("did you mean"), " ", searchFor(answer.suggestion), t("did you mean") === "Did you mean" ? "?" : "？"]);
  if (answer.doubtful) made.push([t("doubtful", { query: place.q.trim() })]);
  const everything = { ...place, allTypes: true, page: 1 };
  if (answer.product_type) made.push([t("one type", { type: answer.product_type }), " ", el("a", { href: addressOf(everything), text: t("all types") })]);
  const links = answer.preferred.flatMap((named) => preferenceLinks(named, place, shop.facts.facets));
  const first = place.sort ? "" : t("listed first", { values: answer.preferred.map(preferenceText).join(t("and comma")) });
  if (answer.preferred.length) made.push([first, ...(links.length ? [` ${t("show only")} `, ...links.slice(1)] : [])]);
  const page = answer.redirect ? webUrl(answer.redirect) : "";
  if (page) made.push([t("redirect"), " ", el("a", { href: page, text: answer.redirect })]);
  if (answer.degraded.length) made.push([t("degraded")]);
  return made.map((parts) => el("p", { class: "notice" }, parts));
}

/** The preference of a query as text: "up to 100", "Red". */
function preferenceText({ values, low, high }) {
  if (values.length) return values.slice(0, 3).join(" / ") + (values.length > 3 ? "…" : "");
  if (low === null) return t("at most", { high });
  return high === null ? t("at least", { low }) : `${low}–${high}`;
}

/** A link that shows only products with a preferred value; none if the field is not a facet of the store. */
function preferenceLinks(named, place, fields) {
  const field = fields.find((each) => named.field === each || named.field === `attributes.${each}`);
  if (!field) return [];
  const only = field === "price" ? withRange(place, field, named.low, named.high) : withValues(place, field, named.values);
  return [" · ", el("a", { href: addressOf(only), text: preferenceText(named) })];
}

function pager(place, answer) {
  const pages = Math.min(1000, Math.ceil(answer.total / answer.size));
  if (pages < 2) return null;
  const link = (name, page, path) => {
    const parts = path === ICONS.back ? [icon(path), t(name)] : [t(name), icon(path)];
    if (page < 1 || page > pages) return el("span", { class: "step off", "aria-hidden": "true" }, parts);
    return el("a", { class: "step", href: addressOf({ ...place, page }), rel: page < place.page ? "prev" : "next" }, parts);
  };
  return el("nav", { class: "pager", "aria-label": t("pages") }, link("previous", place.page - 1, ICONS.back),
    el("span", { text: t("page of", { page: place.page, pages }) }), link("next", place.page + 1, ICONS.next));
}

function nothing(place) {
  if (!isNarrowed(place)) return el("p", { class: "none", text: t("none advice") });
  return el("div", { class: "none" }, el("p", { text: t("none filtered") }), el("p", {}, el("a", { class: "primary", href: addressOf({ ...place, filters: {}, page: 1 }), text: t("without filters") })));
}
