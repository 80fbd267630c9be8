// The time by the server's clock, by which events are ordered: a browser's clock may be minutes or years off.

const PATIENCE_MS = 3000;
const TRUSTED_MS = 3000;
let off = 0;

/** Updates the offset from a response requested at `began` (browser time). The header has whole seconds, so small
 * deviations are ignored: times do not jump back by fractions. */
export function hearTime(answer, began) {
  const took = Date.now() - began;
  const seen = Date.parse(answer.headers.get("date") || "") - (began + took / 2);
  if (took >= 0 && took < PATIENCE_MS && Math.abs(seen - off) > TRUSTED_MS) off = seen;
}

/** The current time for events. */
export function timestamp() {
  return new Date(Date.now() + off).toISOString();
}
