/* Joins the parts of the page: what the address says is what is shown. */

import { $, fill } from "./dom.js";
import { api, go, read } from "./state.js";
import { Detail, copy } from "./detail.js";
import { List, fillPicker, runsPage, taskList } from "./list.js";

const POLL = 4000;
let runs = { runs: [], folders: [] };
let tasks = [];
let tasksOf = "";
let differences = new Map();

const notice = $("notice");
function say(error) {
  if (!(error instanceof Error) || error.name !== "AbortError") {
    notice.textContent = error.message;
    notice.hidden = false;
  }
}
const hush = () => { notice.hidden = true; };

const list = new List($("list"), say);
const detail = new Detail($("detail"), say);

/* Phones show one part at a time. */
const phone = matchMedia("(max-width: 46rem)");
function part() {
  const { task, doc } = read();
  document.body.dataset.part = doc ? "detail" : task ? "list" : "tasks";
}

async function show() {
  hush();
  part();
  const now = read();
  fillPicker($("run"), runs.runs, now.run, "choose a run");
  fillPicker($("with"), runs.runs.filter((r) => r.id !== now.run), now.with, "none");
  $("swap").disabled = !now.with;
  const overview = !now.run;
  $("runs").hidden = !overview;
  $("work").hidden = overview;
  document.title = [now.doc && `#${now.doc}`, now.task, now.run, "olmeval view"].filter(Boolean).join(" · ");
  if (overview) {
    if (!$("runs").contains(document.activeElement)) fill($("runs"), ...runsPage(runs));
    return;
  }
  try {
    await showTasks(now);
    if (!now.task) {
      if (tasks.length && !phone.matches) go({ task: tasks[0].name }, { replace: true });
      return;
    }
    const task = tasks.find((t) => t.name === now.task);
    if (!task) throw new Error(`Run '${now.run}' has no task '${now.task}'.`);
    await Promise.all([list.load(task), detail.load(() => list.place())]);
    if (read().doc) list.mark();
    detail.placed();
    warm(now.run);
  } catch (error) {
    say(error);
  }
}

/* Has the tokenizer loaded while the list is read. */
function warm(run) {
  if (warm.run === run) return;
  warm.run = run;
  api("tokens", { run }).catch(() => { warm.run = null; });
}

async function showTasks(now) {
  const key = JSON.stringify([now.run, now.with]);
  if (key !== tasksOf) {
    tasks = (await api("tasks", { run: now.run, with: now.with })).tasks;
    tasksOf = key;
    differences = new Map();
    if (now.with) loadDifferences(now, key);
  }
  drawTasks();
}

function drawTasks() {
  if ($("tasks").contains(document.activeElement) && document.activeElement.tagName === "INPUT") return;
  const folded = $("tasks").querySelector("details")?.open === false;
  const at = $("tasks").querySelector(".items")?.scrollTop || 0;
  fill($("tasks"), ...taskList(tasks, differences));
  if (folded) $("tasks").querySelector("details").open = false;
  $("tasks").querySelector(".items").scrollTop = at;
  $("tasks").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

/* Task by task, so that the first are there early. */
async function loadDifferences(now, key) {
  const order = [...tasks].sort((a, b) => (b.name === now.task) - (a.name === now.task));
  for (const task of order.filter((t) => t.other)) {
    if (tasksOf !== key) return;
    try {
      const found = await api("difference", { run: now.run, with: now.with, task: task.name });
      if (tasksOf !== key) return;
      if (found) differences.set(task.name, found);
      drawTasks();
    } catch (error) {
      return say(error);
    }
  }
}

async function poll() {
  try {
    const found = await api("runs");
    const before = JSON.stringify(runs);
    const first = runs.runs.length === 0;
    runs = found;
    if (JSON.stringify(found) === before) return;
    const finished = runs.runs.filter((r) => r.finished);
    if (first && !read().run && !location.hash.startsWith("#runs") && runs.runs.length === 1 && finished.length === 1) {
      go({ run: finished[0].id }, { replace: true });
    } else show();
  } catch (error) {
    say(error);
  } finally {
    setTimeout(poll, document.hidden ? 4 * POLL : POLL);
  }
}

/* ---- controls ---- */

$("run").addEventListener("change", (e) => go({ run: e.target.value, with: read().with === e.target.value ? "" : read().with }));
$("with").addEventListener("change", (e) => go({ with: e.target.value }));
const swap = () => { const { run, with: other } = read(); if (other) go({ run: other, with: run, doc: read().doc }); };
$("swap").addEventListener("click", swap);
$("copy").addEventListener("click", (e) => copy(location.href, e.target));
$("keys").addEventListener("click", () => $("help").showModal());
addEventListener("back", () => go(read().doc ? { doc: "" } : { task: "" }));
addEventListener("state", show);

const keys = {
  j: () => list.move(1),
  k: () => list.move(-1),
  ArrowDown: () => list.move(1),
  ArrowUp: () => list.move(-1),
  ArrowRight: () => list.turn(1),
  ArrowLeft: () => list.turn(-1),
  "/": () => $("search")?.focus(),
  t: () => { const fold = $("tasks").querySelector("details"); if (fold) fold.open = true; ($("find-task") || $("tasks").querySelector("a"))?.focus(); },
  w: () => detail.toggle("boundaries"),
  n: () => detail.toggle("numbers"),
  x: swap,
  c: () => $("copy").click(),
  "?": () => $("help").showModal(),
  Escape: () => {
    if ($("detail").contains(document.activeElement)) $("list").querySelector("[aria-current]")?.focus();
    else if (read().doc) go({ doc: "" });
  },
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const at = event.target;
  if (at.matches?.("input, select, textarea")) {
    if (event.key === "Escape") { event.preventDefault(); at.blur(); }
    else if (event.key === "ArrowDown" && at.id === "search") { event.preventDefault(); at.blur(); list.move(1); }
    return;
  }
  // Arrows scroll what has the focus and can scroll.
  const scrolls = event.key.startsWith("Arrow") && at.matches?.("pre, .scroll, #detail");
  if (scrolls || $("work").hidden && event.key !== "?") return;
  if (event.key === "Enter" && !at.matches?.("button, summary, a:not([aria-current])")) {
    if (read().doc) { event.preventDefault(); $("detail").focus(); }
    return;
  }
  const digit = /^[1-9]$/.test(event.key) ? $("list").querySelectorAll(".filters button")[event.key - 1] : null;
  const action = digit ? () => digit.click() : Object.hasOwn(keys, event.key) ? keys[event.key] : null;
  if (!action) return;
  event.preventDefault();
  action();
});

poll();
