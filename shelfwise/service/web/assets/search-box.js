// The search field with suggestions below it: a combobox with a listbox, as in the ARIA practices.

import { ALL } from "./address.js";
import { api } from "./api.js";
import { ICONS, el, fill, icon, marked } from "./dom.js";
import { mark } from "./picture.js";
import { forgetSearches, recentSearches, rememberSearch } from "./visitor.js";
import { money, t } from "./words.js";

const PAUSE_MS = 90;

/** Adds suggestions to the field of a form. Callbacks in `on`: `typed(text)` while typing, `submitted(text)` on submit,
 * `selected(place)` for the place of a category, brand or product. */
export function searchBox(form, on) {
  const field = form.querySelector("input");
  const list = form.querySelector("[role=listbox]");
  const clear = form.querySelector(".clear");
  let options = [];
  let active = -1;
  let pause = 0;
  let request = new AbortController();

  const close = () => {
    request.abort();
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    activate(-1);
  };
  const activate = (index) => {
    active = index;
    options.forEach(({ element }, at) => element.setAttribute("aria-selected", String(at === index)));
    if (index < 0) field.removeAttribute("aria-activedescendant");
    else {
      field.setAttribute("aria-activedescendant", options[index].element.id);
      options[index].element.scrollIntoView({ block: "nearest" });
    }
  };
  const choose = (option) => {
    close();
    clearTimeout(pause);
    if (option.forgets) forgetSearches();
    else if (option.text !== undefined) {
      field.value = option.text;
      submit();
    } else on.selected(option.place);
  };
  const submit = () => {
    shown();
    rememberSearch(field.value);
    on.submitted(field.value);
  };
  const shown = () => (clear.hidden = !field.value);
  const suggest = async (text) => {
    request.abort();
    const recent = text.trim() ? [] : recentSearches();
    request = new AbortController();
    const { signal } = request;
    try {
      const found = await api.suggest(text, signal);
      if (signal.aborted || document.activeElement !== field) return;
      const groups = groupsOf(found, recent, Boolean(text.trim()));
      options = groups.flatMap(([, own]) => own);
      options.forEach((option, at) => {
        option.element.id = `option-${at}`;
        option.element.addEventListener("pointerdown", (event) => event.preventDefault());
        option.element.addEventListener("click", () => choose(option));
      });
      fill(list, groups.map(([name, own]) => el("div", { role: "group", "aria-label": t(name) },
        el("div", { class: "head", "aria-hidden": "true", text: t(name) }), own.map(({ element }) => element))));
      list.hidden = !options.length;
      field.setAttribute("aria-expanded", String(options.length > 0));
      activate(-1);
    } catch {
      if (!signal.aborted) close();
    }
  };

  field.addEventListener("input", (event) => {
    shown();
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
      choose(options[active]);
    } else if (event.key === "Escape") {
      if (isOpen) event.preventDefault();
      close();
    } else if (event.key === "Tab") close();
  });
  field.addEventListener("blur", close);
  field.addEventListener("focus", () => field.value.trim() || suggest(""));
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
    submit();
  });
  clear.addEventListener("click", () => {
    field.value = "";
    shown();
    close();
    on.typed("");
    field.focus();
  });
  return {
    close,
    set(text) {
      if (document.activeElement !== field || field.value.trim() !== text) field.value = text;
      shown();
    },
  };
}

/** Groups of options, [name of the group, options]; an option has a `text` to search for, a `place` to go to, or `forgets` searches. */
function groupsOf({ queries, categories, brands, products }, recent, isTyped) {
  const option = (drawn, content, more) => ({ element: el("div", { role: "option", "aria-selected": "false" }, drawn, el("span", {}, content)), ...more });
  const forget = option(icon(ICONS.close), t("forget searches"), { forgets: true });
  const priced = ({ product, spans }) => {
    const found = option(mark(product), marked(product.title, spans), { place: { view: "product", product: product.id } });
    found.element.append(el("small", { text: product.price === null ? "" : money(product.price, product.currency) }));
    return found;
  };
  return [
    ["recent searches", recent.length ? [...recent.map((text) => option(icon(ICONS.clock), text, { text })), forget] : []],
    [isTyped ? "suggested queries" : "popular searches", queries.slice(0, 5).map(({ text, spans }) => option(icon(ICONS.search), marked(text, spans), { text }))],
    ["suggested categories", categories.slice(0, 2).map(({ path, text, spans }) => option(icon(ICONS.folder), marked(text, spans), { place: { ...ALL, category: path.join(" > ") } }))],
    ["suggested brands", brands.slice(0, 2).map(({ name, spans }) => option(icon(ICONS.tag), marked(name, spans), { place: { ...ALL, selected: { brand: [name] } } }))],
    ["suggested products", products.slice(0, 3).map(priced)],
  ].filter(([, options]) => options.length);
}
