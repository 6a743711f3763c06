/* What is shown lives in the address after "#", so that a link leads to it; questions to the server. */

const NAMES = ["run", "with", "task", "metric", "filter", "sort", "q", "doc"];
const KEY = "olmeval-view-token";

function takeToken() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const token = hash.get("token");
  if (!token) return;
  // The token stays out of the address bar, of copied links and of the history.
  hash.delete("token");
  history.replaceState(null, "", `${location.pathname}#${hash}`);
  try { localStorage.setItem(KEY, token); } catch { /* a browser without storage */ }
  takeToken.value = token;
}
takeToken();

function token() {
  if (takeToken.value) return takeToken.value;
  try { return localStorage.getItem(KEY) || ""; } catch { return ""; }
}

export function read() {
  const hash = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(NAMES.map((name) => [name, hash.get(name) || ""]));
}

/* The address of the present state with some changes; what follows from a changed name is dropped. */
export function address(changes) {
  const dropped = { run: ["doc"], with: ["filter", "sort"], task: ["metric", "filter", "doc", "q"],
    metric: ["filter"] };
  const now = read();
  for (const name of Object.keys(changes)) {
    if (now[name] !== changes[name]) for (const other of dropped[name] || []) now[other] = "";
  }
  const next = { ...now, ...changes };
  return "#" + new URLSearchParams(NAMES.filter((n) => next[n] !== "").map((n) => [n, next[n]]));
}

export function go(changes, { replace = false } = {}) {
  const target = address(changes);
  if (target === location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", target);
  dispatchEvent(new Event("state"));
}
addEventListener("popstate", () => {
  takeToken();
  dispatchEvent(new Event("state"));
});

export class Refused extends Error {}

export async function api(name, query = {}, signal = undefined) {
  const known = Object.entries(query).filter(([, v]) => v !== "" && v !== null && v !== undefined);
  let answer;
  try {
    answer = await fetch(`/api/${name}?${new URLSearchParams(known)}`,
      { headers: { "X-Olmeval-Token": token() }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The viewer does not answer: `olmeval view` was ended, or the connection to its machine was lost.");
  }
  const value = await answer.json();
  if (!answer.ok) throw new Refused(value.error);
  return value;
}
