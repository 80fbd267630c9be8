// What is said to who cannot see that something changed, and briefly shown to all others.

const SHOWN_MS = 2600;
let timer = 0;

/** Says how many products there are, once it stays so: not for every letter that is typed. */
export function tellCount(text) {
  clearTimeout(timer);
  const place = document.getElementById("status");
  timer = setTimeout(() => place.textContent !== text && (place.textContent = text), 600);
}

/** Says and shows that something was done. */
export function announce(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(place.timer);
  place.timer = setTimeout(() => place.classList.remove("shown"), SHOWN_MS);
}
