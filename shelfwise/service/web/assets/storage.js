// Browser storage; if it is not available, values last as long as the page.

import { BASE } from "./address.js";

const values = new Map();
const instead = { getItem: (name) => values.get(name) ?? null, setItem: (name, text) => values.set(name, text), removeItem: (name) => values.delete(name) };

// The prefix of permanent storage includes the store, as there may be several.
function storage(area, prefix) {
  const attempt = (work) => {
    try {
      return work(window[area]);
    } catch {
      return work(instead);
    }
  };
  return {
    read(name, missing = null) {
      try {
        return JSON.parse(attempt((store) => store.getItem(prefix + name))) ?? missing;
      } catch {
        return missing;
      }
    },
    write: (name, value) => attempt((store) => store.setItem(prefix + name, JSON.stringify(value))),
    remove: (name) => attempt((store) => store.removeItem(prefix + name)),
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
