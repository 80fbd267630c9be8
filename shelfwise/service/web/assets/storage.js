// Browser storage; if it is not available, values last as long as the page.

import { BASE } from "./address.js";

const instead = new Map();

function attempt(area, work, otherwise) {
  try {
    return work(window[area]);
  } catch {
    return otherwise();
  }
}

// The prefix of permanent storage includes the store, as there may be several.
function storage(area, prefix) {
  return {
    read(name, missing = null) {
      const text = attempt(area, (store) => store.getItem(prefix + name), () => instead.get(name) ?? null);
      try {
        return text === null ? missing : JSON.parse(text);
      } catch {
        return missing;
      }
    },
    write(name, value) {
      const text = JSON.stringify(value);
      attempt(area, (store) => store.setItem(prefix + name, text), () => instead.set(name, text));
    },
    remove(name) {
      attempt(area, (store) => store.removeItem(prefix + name), () => instead.delete(name));
    },
  };
}

/** Permanent storage. */
export const browser = storage("localStorage", `shelfwise${BASE}.`);
/** Storage of this tab. */
export const tab = storage("sessionStorage", "shelfwise.");

/** A random name. */
export function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
