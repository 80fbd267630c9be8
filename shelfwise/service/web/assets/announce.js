// Announcements for screen readers, and brief messages for all.

const SHOWN_MS = 2600;
let timer = 0;

/** Announces the number of products once it is stable, not for every typed letter. */
export function announceCount(text) {
  clearTimeout(timer);
  const place = document.getElementById("status");
  timer = setTimeout(() => place.textContent !== text && (place.textContent = text), 600);
}

/** Announces a result, and shows it unless the page shows it elsewhere. */
export function announce(text, { isShown = true } = {}) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.toggle("shown", isShown);
  clearTimeout(place.timer);
  place.timer = setTimeout(() => place.classList.remove("shown"), SHOWN_MS);
}
