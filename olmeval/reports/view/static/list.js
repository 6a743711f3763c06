/* The runs, the tasks of a run, and the list of a task's instances. */

import { el, fill, count, fixed, difference, plural, $ } from "./dom.js";
import { address, api, go, read } from "./state.js";
import { nodes } from "./text.js";

const FILTER_NAMES = {
  all: "All", wrong: "Wrong", right: "Right", partial: "Partly right", flipped: "Flipped",
  lost: "Lost", gained: "Gained", truncated: "Truncated", errors: "Errors",
  length: "At token limit", cheats: "Suspected cheats", unparsed: "No answer found", unmatched: "Only in this run",
};
const FILTER_HELP = {
  wrong: "value below a half", right: "value of a half or more", partial: "between none and all",
  flipped: "right in one run, wrong in the other", lost: "right in this run, wrong in the other",
  gained: "wrong in this run, right in the other", truncated: "the prompt lost its beginning to the window",
  errors: "could not be scored", length: "a sample ended at the limit of tokens",
  cheats: "a program passes the published form of its tests and not the one it cannot reach into",
  unparsed: "the grader found no answer in a sample",
  unmatched: "the other run has no such question",
};
const SORT_NAMES = {
  document: "in order", lowest: "lowest first", highest: "highest first",
  change: "flipped first", drop: "largest drop first", rise: "largest rise first",
};

/* ---- runs ---- */

export function runsPage({ runs, folders }) {
  const search = el("input", { type: "search", id: "find-run", placeholder: "Find a run", "aria-label": "Find a run" });
  const body = el("tbody");
  const draw = () => {
    const wanted = search.value.toLowerCase();
    fill(body, runs.filter((r) => `${r.id} ${r.model}`.toLowerCase().includes(wanted)).slice(0, 500).map((r) =>
      el("tr", {},
        el("th", { scope: "row" }, r.finished ? el("a", { href: `#run=${encodeURIComponent(r.id)}` }, ...nodes(r.id)) : nodes(r.id),
          r.error ? el("small", { class: "bad" }, ...nodes(" " + r.error)) : null),
        el("td", {}, ...nodes(r.run && r.run !== r.id ? String(r.run) : "")),
        el("td", { class: "number" }, r.step === null || r.step === undefined ? "" : count(r.step)),
        el("td", { class: `status ${r.status}` }, r.status),
        el("td", { class: "number" }, r.tasks ?? ""),
        el("td", {}, r.limit ? `limit ${r.limit}` : ""),
        el("td", {}, when(r.ended || r.started)))));
  };
  search.addEventListener("input", draw);
  draw();
  return [
    el("h1", {}, plural(runs.length, "run")),
    el("p", { class: "note" }, "In ", folders.join(", "), ". New runs appear here while they are written."),
    runs.length > 8 ? search : null,
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" }, el("table", {},
      el("thead", {}, el("tr", {}, ["run", "training run", "step", "status", "tasks", "", "ended or begun"].map((h, k) =>
        el("th", { scope: "col", class: k === 2 || k === 4 ? "number" : null }, h)))), body)),
  ];
}

function when(text) {
  const time = new Date(text || NaN);
  return isNaN(time) ? "" : time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function fillPicker(select, runs, chosen, none) {
  const options = [none === null ? null : el("option", { value: "" }, none)];
  const groups = new Map();
  for (const r of runs) {
    const name = r.run && r.run !== r.id ? String(r.run) : "";
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(el("option", { value: r.id, disabled: !r.finished }, r.id + (r.finished ? "" : ` (${r.status})`)));
  }
  for (const [name, items] of groups) options.push(name ? el("optgroup", { label: name }, ...items) : items);
  if (chosen && !runs.some((r) => r.id === chosen)) options.push(el("option", { value: chosen }, `${chosen} (not found)`));
  fill(select, ...options);
  select.value = chosen;
}

/* ---- tasks ---- */

export function taskList(tasks, differences) {
  const now = read();
  const search = el("input", { type: "search", id: "find-task", placeholder: "Find a task (t)", "aria-label": "Find a task" });
  search.value = taskList.wanted || "";
  const items = tasks.map((t) => {
    const gap = differences.get(t.name);
    const notes = [
      t.errors ? plural(t.errors, "error") : "",
      t.counters.truncated ? `${count(t.counters.truncated)} truncated` : "",
      t.counters.length_limited ? `${count(t.counters.length_limited)} at token limit` : "",
      t.counters.code_suspected_cheats ? plural(t.counters.code_suspected_cheats, "suspected cheat") : "",
      t.same ? "" : "other questions in the two runs",
    ].filter(Boolean).join(", ");
    return el("a", { href: address({ task: t.name }), class: "task", "data-name": t.name.toLowerCase(),
      "aria-current": t.name === now.task ? "true" : null },
      el("span", { class: "name" }, t.name.split(/(?<=[:_])/).map((part) => [nodes(part), el("wbr")])),
      el("span", { class: "score" }, fixed(t.score?.value), t.score ? el("small", {}, t.score.stderr === null ? "" : ` ±${fixed(t.score.stderr)}`) : null),
      el("small", { class: "metric" }, t.metric, " ", t.score ? (t.score.higher_is_better ? "↑" : "↓") : "", ` · ${count(t.instances)}`),
      gap ? el("small", { class: "gap" }, gapText(gap, t)) : null,
      notes ? el("small", { class: "notes" }, notes) : null);
  });
  const draw = () => {
    taskList.wanted = search.value;
    const wanted = search.value.toLowerCase();
    for (const item of items) item.hidden = !item.dataset.name.includes(wanted);
  };
  search.addEventListener("input", draw);
  draw();
  return [el("details", { open: true, class: "fold" },
    el("summary", {}, plural(tasks.length, "task")),
    tasks.length > 6 ? search : null,
    el("div", { class: "items" }, items))];
}

/* "+0.012 ±0.004, 5 lost, 9 gained" */
export function gapText(gap, task) {
  const sure = gap.stderr !== null && Math.abs(gap.value) > 1.959964 * gap.stderr;
  const good = task.score && (gap.value > 0) === task.score.higher_is_better;
  return [el("b", { class: sure ? (good ? "good" : "bad") : "soft" }, difference(gap.value)),
    gap.stderr === null ? "" : ` ±${fixed(gap.stderr)}`,
    sure ? (good ? " better" : " worse") : " within error",
    gap.lost === undefined ? "" : `, ${count(gap.lost)} lost, ${count(gap.gained)} gained`];
}

/* ---- instances ---- */

export function verdict(value, judged, status) {
  if (status === "error") return ["!", "error", "could not be scored"];
  if (value === null || value === undefined) return ["–", "none", "no value"];
  if (!judged) return [fixed(value, 2), "plain", `value ${fixed(value, 4)}`];
  if (value >= 1) return ["✓", "right", "right"];
  if (value <= 0) return ["✗", "wrong", "wrong"];
  return [`${Math.round(100 * value)} %`, value >= 0.5 ? "right" : "wrong", `${fixed(value, 3)}: partly right`];
}

const sign = (value, judged, status) => {
  const [text, kind, title] = verdict(value, judged, status);
  return el("span", { class: `verdict ${kind}`, title }, text);
};

export class List {
  constructor(root, onError) {
    this.root = root;
    this.onError = onError;
    this.rows = [];
    this.key = "";
    this.counts = {};
    this.aborter = null;
  }

  query() {
    const { run, with: other, task, metric, filter, sort, q } = read();
    return { run, with: other, task, metric, filter, sort, q };
  }

  /* Fetches the page that has the shown document, or the one at `offset`, if it is another. */
  async load(task, { offset = null, fresh = false } = {}) {
    const query = this.query();
    const key = JSON.stringify(query);
    const { doc } = read();
    const shown = this.rows.some((r) => String(r.doc_id) === doc);
    if (!fresh && key === this.key && offset === null && (shown || !doc)) return this.mark();
    const other = key !== this.key;
    const about = JSON.stringify([query.run, query.with, query.task]);
    this.key = key;
    this.aborter?.abort();
    const { signal } = this.aborter = new AbortController();
    this.root.setAttribute("aria-busy", "true");
    if (about !== this.about) this.frame(task);
    else if (other) this.sync(task || this.task);
    this.about = about;
    this.task = task || this.task;
    try {
      const page = await api("instances", { ...query, offset: offset ?? 0, doc: offset === null ? doc : "" }, signal);
      this.page = page;
      this.rows = page.rows;
      this.draw();
      if (other) this.loadCounts(query, signal);
      this.loadSnippets(query, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.rows = [];
      fill(this.items);
      this.onError(error);
    } finally {
      if (this.aborter.signal === signal) this.root.removeAttribute("aria-busy");
    }
  }

  async loadCounts(query, signal) {
    const { run, with: other, task, metric } = query;
    const about = JSON.stringify([run, other, task, metric]);
    try {
      if (this.countsOf !== about) this.counts = await api("counts", { run, with: other, task, metric }, signal);
      this.countsOf = about;
      this.drawFilters();
    } catch (error) {
      if (error.name !== "AbortError") this.onError(error);
    }
  }

  async loadSnippets(query, signal) {
    if (!this.rows.length) return;
    const docs = this.rows.map((r) => r.doc_id).join(",");
    try {
      const texts = await api("snippets", { run: query.run, task: query.task, docs }, signal);
      for (const item of this.items.children) {
        const text = texts[item.dataset.doc];
        if (text) fill(item.querySelector(".snippet"), ...nodes(text));
      }
    } catch (error) {
      if (error.name !== "AbortError") this.onError(error);
    }
  }

  /* Head, search, filters: what stays while pages change. */
  frame(task) {
    const now = read();
    const search = el("input", { type: "search", id: "search", value: now.q, placeholder: "Search prompts, choices, answers (/)",
      "aria-label": "Search prompts, choices, answers and ids", title: "Upper and lower case are one unless you type an upper-case letter." });
    let timer;
    search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => go({ q: search.value.trim(), doc: "" }, { replace: true }), 350);
    });
    this.filters = el("div", { class: "filters", role: "group", "aria-label": "Filter" });
    this.items = el("ol", { class: "items" });
    this.pager = el("div", { class: "pager" });
    this.sorter = el("select", { "aria-label": "Order", onchange: (e) => go({ sort: e.target.value, doc: "" }) });
    this.metrics = el("select", { "aria-label": "Metric", onchange: (e) => go({ metric: e.target.value, doc: "" }) },
      task.metrics.map((m) => el("option", { value: m }, m)));
    this.metrics.value = now.metric || task.metric;
    fill(this.root,
      el("div", { class: "head" },
        el("h2", {}, el("button", { type: "button", class: "back", onclick: () => dispatchEvent(new Event("back")) }, "‹ Tasks"),
          " ", ...nodes(task.name)),
        search,
        el("div", { class: "row" }, this.metrics, this.sorter),
        this.filters),
      this.items, this.pager);
    this.drawFilters();
  }

  /* What the address says of search and metric, where they stay. */
  sync(task) {
    const now = read();
    const search = this.root.querySelector("#search");
    if (search !== document.activeElement) search.value = now.q;
    this.metrics.value = now.metric || task.metric;
  }

  drawFilters() {
    const now = read();
    const names = Object.keys(this.counts);
    const held = this.filters.contains(document.activeElement) ? document.activeElement.dataset.filter : null;
    fill(this.filters, names.filter((n) => n === "all" || this.counts[n] || n === now.filter).map((name, k) =>
      el("button", { type: "button", "aria-pressed": String((now.filter || "all") === name), "data-filter": name,
        title: `${FILTER_HELP[name] || ""}${k < 9 ? ` (key ${k + 1})` : ""}`.trim(),
        onclick: () => go({ filter: name === "all" ? "" : name, doc: "" }) },
        FILTER_NAMES[name] || name, el("small", {}, " " + count(this.counts[name])))));
    if (held) this.filters.querySelector(`[data-filter="${held}"]`)?.focus();
  }

  draw() {
    const { page } = this;
    const paired = Boolean(read().with);
    fill(this.sorter, page.sorts.map((s) => el("option", { value: s }, s === "change" && !page.judged ? "largest change first" : SORT_NAMES[s] || s)));
    this.sorter.value = page.sort;
    fill(this.items, page.rows.map((r) => el("li", { "data-doc": r.doc_id },
      el("a", { href: address({ doc: String(r.doc_id) }), class: "instance" },
        el("span", { class: "signs" }, sign(r.value, page.judged, r.status),
          paired && r.other_status !== null ? ["→", sign(r.other, page.judged, r.other_status)] : null),
        el("span", { class: "what" },
          el("span", { class: "id" }, ...nodes(String(r.native_id))),
          r.status === "ok" ? null : el("span", { class: `status ${r.status}` }, r.status),
          el("span", { class: "snippet" }))))));
    const last = page.offset + page.rows.length;
    fill(this.pager,
      el("button", { type: "button", disabled: page.offset === 0, "aria-label": "Previous page (←)", onclick: () => this.turn(-1) }, "‹"),
      el("span", { role: "status" }, page.total ? `${count(page.offset + 1)}–${count(last)} of ${count(page.total)}` : "nothing matches"),
      el("button", { type: "button", disabled: last >= page.total, "aria-label": "Next page (→)", onclick: () => this.turn(1) }, "›"));
    this.items.scrollTop = 0;
    this.drawFilters();
    this.mark();
  }

  /* Marks the shown document. */
  mark() {
    const { doc } = read();
    if (!this.items) return;
    for (const item of this.items.children) {
      const link = item.firstElementChild;
      const shown = item.dataset.doc === doc;
      link.href = address({ doc: item.dataset.doc });
      if (shown) {
        link.setAttribute("aria-current", "true");
        item.scrollIntoView({ block: "nearest" });
      } else link.removeAttribute("aria-current");
    }
  }

  /* Another page; `at` says which of its documents is shown then ("first", "last" or none). */
  async turn(by, at = null) {
    const { page } = this;
    if (!page) return false;
    const offset = page.offset + by * page.page;
    if (offset < 0 || offset >= page.total) return false;
    await this.load(null, { offset });
    if (at && this.rows.length) this.show(at === "first" ? 0 : this.rows.length - 1);
    return true;
  }

  show(k) {
    go({ doc: String(this.rows[k].doc_id) }, { replace: Boolean(read().doc) });
  }

  /* The next (1) or previous (-1) document. */
  move(by) {
    if (!this.rows.length) return;
    const { doc } = read();
    const at = this.rows.findIndex((r) => String(r.doc_id) === doc);
    const next = at < 0 ? (by > 0 ? 0 : this.rows.length - 1) : at + by;
    if (next >= 0 && next < this.rows.length) this.show(next);
    else this.turn(by, by > 0 ? "first" : "last");
  }

  place() {
    const at = this.rows.findIndex((r) => String(r.doc_id) === read().doc);
    return at < 0 || !this.page ? "" : `${count(this.page.offset + at + 1)} of ${count(this.page.total)}`;
  }
}
