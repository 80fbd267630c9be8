// The storage of this browser; without it, values last as long as the tab.

const instead = new Map();

function attempt(area, work, otherwise) {
  try {
    return work(window[area]);
  } catch {
    return otherwise();
  }
}

function storage(area) {
  return {
    read(name, missing = null) {
      const text = attempt(area, (store) => store.getItem(`shelfwise.${name}`), () => instead.get(name) ?? null);
      try {
        return text === null ? missing : JSON.parse(text);
      } catch {
        return missing;
      }
    },
    write(name, value) {
      const text = JSON.stringify(value);
      attempt(area, (store) => store.setItem(`shelfwise.${name}`, text), () => instead.set(name, text));
    },
    remove(name) {
      attempt(area, (store) => store.removeItem(`shelfwise.${name}`), () => instead.delete(name));
    },
  };
}

/** Permanent storage. */
export const browser = storage("localStorage");
/** Storage of this tab. */
export const tab = storage("sessionStorage");

/** A random name. */
export function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
