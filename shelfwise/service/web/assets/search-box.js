// The search field with suggestions below it: a combobox with a listbox, as in the ARIA practices.

import { ALL } from "./address.js";
import { api } from "./api.js";
import { ICONS, el, fill, icon, marked } from "./dom.js";
import { mark } from "./picture.js";
import { browser, rememberSearch, stored } from "./visitor.js";
import { money, t } from "./words.js";

const PAUSE_MS = 90;

/** Adds suggestions to the field of a form. Callbacks in `on`: `typed(text)` while typing, `submitted(text)` on submit,
 * `selected(place)` for the place of a category, brand or product. */
export function searchBox(form, on) {
  const field = form.querySelector("input");
  const list = form.querySelector("[role=listbox]");
  let options = [];
  let active = -1;
  let pause = 0;
  let request = new AbortController();

  const close = () => {
    request.abort();
    list.hidden = true;
    field.ariaExpanded = "false";
    activate(-1);
  };
  const activate = (index) => {
    active = index;
    options.forEach((option, at) => (option.ariaSelected = String(at === index)));
    field.setAttribute("aria-activedescendant", options[index]?.id ?? "");
    options[index]?.scrollIntoView({ block: "nearest" });
  };
  const submit = (text) => {
    field.value = text;
    rememberSearch(text);
    on.submitted(text);
  };
  const suggest = async (text) => {
    request.abort();
    request = new AbortController();
    const { signal } = request;
    try {
      const found = await api.suggest(text, signal);
      if (signal.aborted || document.activeElement !== field) return;
      const groups = groupsOf(found, text.trim(), { submit, selected: on.selected });
      options = groups.flatMap(([, own]) => own);
      options.forEach((option, at) => (option.id = `option-${at}`));
      fill(list, groups.map(([name, own]) => el("div", { role: "group", "aria-label": t(name) }, el("div", { class: "head", "aria-hidden": "true", text: t(name) }), own)));
      list.hidden = !options.length;
      field.ariaExpanded = String(!list.hidden);
      activate(-1);
    } catch {
      if (!signal.aborted) close();
    }
  };

  field.addEventListener("input", (event) => {
    if (event.isComposing) return;
    activate(-1);
    clearTimeout(pause);
    pause = setTimeout(() => {
      if (active < 0) suggest(field.value);
      on.typed(field.value);
    }, PAUSE_MS);
  });
  // Intermediate states of an input method are not searched for, only its result.
  field.addEventListener("compositionend", () => field.dispatchEvent(new Event("input")));
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const isOpen = !list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!isOpen) return void suggest(field.value);
      request.abort(); // the list must not change while it is navigated
      const step = event.key === "ArrowDown" ? 1 : -1;
      // Beyond either end of the list is the field itself.
      activate(((active + 1 + step + options.length + 1) % (options.length + 1)) - 1);
    } else if (event.key === "Enter" && isOpen && active >= 0) {
      event.preventDefault();
      options[active].click();
    } else if (event.key === "Escape") {
      if (isOpen) event.preventDefault();
      close();
    } else if (event.key === "Tab") close();
  });
  field.addEventListener("blur", close);
  field.addEventListener("focus", () => field.value.trim() || suggest(""));
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus
  list.addEventListener("click", () => {
    clearTimeout(pause);
    close();
  });
  document.addEventListener("keydown", (event) => {
    const isWritten = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || isWritten || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(pause);
    close();
    submit(field.value);
  });
  form.querySelector(".clear").addEventListener("click", () => {
    field.value = "";
    close();
    on.typed("");
    field.focus();
  });
  return {
    close,
    set(text) {
      if (document.activeElement !== field || field.value.trim() !== text) field.value = text;
    },
  };
}

/** Groups of options, [name of the group, options]; an option searches for a text, goes to a place, or forgets recent searches. */
function groupsOf({ queries, categories, brands, products }, typed, { submit, selected }) {
  const option = (drawn, content, onclick, more) => el("div", { role: "option", "aria-selected": "false", onclick }, drawn, el("span", {}, content), more);
  const query = (drawn, text, spans) => option(icon(drawn), marked(text, spans), () => submit(text));
  const recent = typed ? [] : stored("recent");
  const forget = option(icon(ICONS.close), t("forget searches"), () => browser.remove("recent"));
  return [
    ["recent searches", recent.length ? [...recent.map((text) => query(ICONS.clock, text)), forget] : []],
    [typed ? "suggested queries" : "popular searches", queries.slice(0, 5).map(({ text, spans }) => query(ICONS.search, text, spans))],
    ["categories", categories.slice(0, 2).map(({ path, text, spans }) => option(icon(ICONS.folder), marked(text, spans), () => selected({ ...ALL, filters: { category: [path.join(" > ")] } })))],
    ["suggested brands", brands.slice(0, 2).map(({ name, spans }) => option(icon(ICONS.tag), marked(name, spans), () => selected({ ...ALL, filters: { brand: [name] } })))],
    ["suggested products", products.slice(0, 3).map(({ product, spans }) => option(mark(product), marked(product.title, spans), () => selected({ ...ALL, view: "product", product: product.id }),
      el("small", { text: product.price === null ? "" : money(product.price, product.currency) })))],
  ].filter(([, options]) => options.length);
}
