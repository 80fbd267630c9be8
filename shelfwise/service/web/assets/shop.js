// The store page: the current view and the navigation between views.

import { ALL, BASE, addressOf, placeOf } from "./address.js";
import { api, useKey } from "./api.js";
import { basketView, count } from "./basket.js";
import { errorNotice } from "./cards.js";
import { announce, fill, webUrl } from "./dom.js";
import { homeView } from "./home.js";
import { productView } from "./product-view.js";
import { usePictures } from "./picture.js";
import { pictureView, resultsView } from "./results.js";
import { searchBox } from "./search-box.js";
import { changeLanguage, language, otherLanguage, t, translate, useFacts } from "./words.js";
import { choice, choose, requestsPrivacy } from "./visitor.js";

const main = document.getElementById("view");
const consent = document.getElementById("consent");
let view = null;
let place = null;
let isTypingOn = false;
let box = null;
let start = null;
let roots = null;

const shop = { facts: null, go, start: whatThereIs, isForeign };

/** Goes to a place and shows it. Consecutive typing is one history entry. A browser without the Navigation API keeps the address. */
function go(next, info = {}) {
  if (!window.navigation) return show(next, info);
  return navigation.navigate(addressOf(next), { history: info.isTyping && isTypingOn ? "replace" : "push", info });
}

function follow(event) {
  const { destination, info, navigationType: type } = event;
  const { pathname, search } = new URL(destination.url);
  if (!event.canIntercept || event.hashChange || event.downloadRequest !== null || type === "reload" || pathname !== `${BASE}/`) return;
  const isBack = type === "traverse";
  isTypingOn = Boolean(info?.isTyping);
  if (isBack) box.close();
  event.intercept({ focusReset: "manual", scroll: "manual", async handler() {
    await show(placeOf(search, shop.facts.facets), { isBack, ...info });
    if (isBack && !event.signal.aborted) event.scroll();
  } });
}

/** Shows a place; with a `file`, the products that look like the picture in it, which have no address of their own. */
async function show(next, info = {}) {
  const { isTyping = false, isBack = false, isFirst = false, isSubmitted = false, file } = info;
  const stays = view && place.view === "search" && next.view === "search";
  const isNew = !stays && !isTyping && !isBack && !isFirst;
  place = file ? { ...ALL, view: "picture" } : next;
  if (!stays) {
    view?.leave?.();
    view = viewOf(place, file);
    fill(main, view);
  }
  if (!isTyping) box.set(place.view === "search" ? place.q : "");
  if (isNew) scrollTo(0, 0);
  const own = view;
  try {
    const answer = await view.show(place, { isTyping, isBack });
    const page = isSubmitted && answer?.redirect ? webUrl(answer.redirect) : "";
    if (page) location.assign(page);
  } catch (error) {
    fill(own.content, errorNotice(error, () => show(next, info)));
  }
  if (own !== view) return;
  const title = document.getElementById("view-title");
  document.title = [place.view !== "home" && title?.textContent, t("store")].filter(Boolean).join(" · ");
  if (isNew) title?.focus({ preventScroll: true });
}

function viewOf({ view: name, product }, file) {
  if (name === "product") return productView(shop, product);
  if (name === "basket") return basketView();
  if (name === "picture") return pictureView(file);
  return name === "search" ? resultsView(shop) : homeView(shop);
}

/** The categories and the first products, without those in the page's other languages; requested once. The language is
 * empty if the store has no products in those. */
function whatThereIs() {
  start ||= firstProducts();
  start.catch(() => (start = null));
  return start;
}

async function firstProducts() {
  const whole = { q: "", size: 12, facets: ["category"], group: "variants" };
  // The field language may be hidden from the key.
  const both = api.searches([whole, { ...whole, filters: `NOT language = "${otherLanguage()}"` }]).catch(() => api.searches([whole]));
  const [all, own] = (await both).results;
  const shown = own?.total ? own : all;
  roots = new Set((shown.facets.category?.counts || []).map(({ value }) => value.split(" > ")[0]));
  const isMixed = own?.total && own.total < all.total;
  return { ...shown, total: all.total, language: isMixed ? language : "" };
}

/** Whether a category has only products in another language of the page. */
function isForeign(category) {
  return roots !== null && !roots.has(category.split(" > ")[0]);
}

const on = {
  typed(text) {
    if (text.trim() || place.view === "search") search(text, { isTyping: true });
  },
  submitted(text) {
    document.querySelector("#search input").blur();
    if (text.trim()) search(text, { isSubmitted: true });
    else go(ALL);
  },
  selected: go,
};

function search(text, info) {
  go({ ...(place.view === "search" ? place : ALL), q: text.slice(0, 1000), page: 1 }, info);
}

/** Shows the button for search by picture if the store supports it. */
function askPictures() {
  const button = document.querySelector("#search .camera");
  const files = document.querySelector("#search .picture-file");
  button.hidden = !shop.facts.searches_pictures;
  button.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    const [file] = files.files;
    files.value = "";
    if (file) go({ ...ALL, view: "home" }, { file });
  });
}

function tellBasket() {
  const link = document.getElementById("basket-link");
  link.setAttribute("aria-label", t("basket of", { count: count() }));
  link.querySelector(".count").textContent = count() || "";
}

async function again() {
  const top = scrollY;
  translate();
  tellBasket();
  start = null;
  if (!view) return;
  view.leave?.();
  view = null;
  await show(place.view === "picture" ? { ...ALL, view: "home" } : place, { isBack: true });
  scrollTo(0, top);
}

/** Asks for consent again, unless the browser has decided. */
function askConsent() {
  if (requestsPrivacy()) return announce(t("privacy asked"));
  consent.hidden = false;
  return document.getElementById("consent-title").focus();
}

function decide({ target }) {
  if (!target.value) return;
  choose(target.value === "yes");
  consent.hidden = true;
  again();
  document.getElementById("view-title")?.focus({ preventScroll: true });
}

async function open() {
  for (const name of ["basket", "storage"]) addEventListener(name, tellBasket); // changes in this tab and in others
  document.getElementById("language").addEventListener("click", () => {
    changeLanguage();
    again();
  });
  document.getElementById("privacy").addEventListener("click", askConsent);
  consent.addEventListener("click", decide);
  try {
    shop.facts = await api.facts();
  } catch (error) {
    translate();
    return fill(main, errorNotice(error, () => location.reload()));
  }
  useFacts(shop.facts);
  document.getElementById("language").hidden = shop.facts.look.language !== null;
  document.querySelector(".home-link").classList.toggle("with-logo", shop.facts.look.has_logo);
  translate();
  tellBasket();
  useKey(shop.facts.key, async () => (await api.facts()).key);
  usePictures(shop.facts.pictures);
  box = searchBox(document.getElementById("search"), on);
  window.navigation?.addEventListener("navigate", follow);
  askPictures();
  consent.hidden = Boolean(choice());
  // Text typed before the page was ready is kept.
  const field = document.querySelector("#search input");
  const isEarly = document.activeElement === field && field.value !== "";
  const first = placeOf(location.search, shop.facts.facets);
  await show(first, { isFirst: true, isTyping: isEarly });
  if (isEarly && place === first) field.dispatchEvent(new Event("input"));
  return undefined;
}

open();
