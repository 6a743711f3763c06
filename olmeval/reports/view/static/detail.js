/* One instance: its prompt, choices with scores, samples, in one run or in two side by side. */

import { el, fill, count, fixed, plural } from "./dom.js";
import { api, read } from "./state.js";
import { block, given, legend, nodes, scored } from "./text.js";
import { verdict } from "./list.js";

const NORMS = {
  acc_raw: ["log p", "sum over the tokens, natural logarithm"],
  acc_per_token: ["/ token", "log p over the number of tokens"],
  acc_per_char: ["/ char", "log p over the number of characters"],
  acc_per_byte: ["/ byte", "log p over the number of UTF-8 bytes"],
  acc_uncond: ["− uncond.", "log p less that after the unconditional prompt"],
};
const letter = (k) => (k < 26 ? String.fromCharCode(65 + k) : String(k + 1));
const JUDGING = (name, better) => better !== false && !/^bits/.test(name);

export class Detail {
  constructor(root, onError) {
    this.root = root;
    this.onError = onError;
    this.key = "";
    this.options = { boundaries: false };
  }

  async load(place) {
    const { run, with: other, task, doc } = read();
    const key = JSON.stringify([run, other, task, doc]);
    if (key === this.key) return;
    this.key = key;
    this.aborter?.abort();
    if (!doc) {
      fill(this.root, el("p", { class: "empty" }, "Select an instance: ", el("kbd", {}, "j"), " is the next one, ",
        el("kbd", {}, "?"), " shows all keys."));
      return;
    }
    const { signal } = this.aborter = new AbortController();
    this.root.setAttribute("aria-busy", "true");
    try {
      const found = await api("instance", { run, with: other, task, doc }, signal);
      this.found = found;
      this.tokens = [null, null];
      this.draw(place);
      this.root.scrollTop = 0;
      this.root.removeAttribute("aria-busy");
      const runs = other && found.sides[1] ? [run, other] : [run];
      await Promise.all(runs.map(async (r, k) => {
        this.tokens[k] = await api("tokens", { run: r, task, doc }, signal);
        this.draw(place);
      }));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.key = "";
      this.onError(error);
    } finally {
      if (this.aborter?.signal === signal) this.root.removeAttribute("aria-busy");
    }
  }

  toggle(name) {
    if (name === "numbers") document.body.classList.toggle("no-numbers");
    else this.options[name] = !this.options[name];
    if (this.found && read().doc) this.draw(this.place);
  }

  draw(place) {
    this.place = place;
    const [a, b] = this.found.sides;
    const two = this.found.sides.length > 1;
    const ran = a.samples?.some((s) => s.verdict);
    fill(this.root,
      el("header", {},
        el("button", { type: "button", class: "back", onclick: () => dispatchEvent(new Event("back")) }, "‹ List"),
        el("h2", {}, ...nodes(String(a.native_id))),
        el("p", { class: "note" }, `document ${count(a.doc_id)}`, el("span", { class: "place" }),
          a.cluster ? [", passage ", ...nodes(String(a.cluster))] : "")),
      this.prompt(a, b),
      el("div", { class: two ? "sides two" : "sides" },
        this.side(a, 0, two),
        two ? (b ? this.side(b, 1, two) : el("div", { class: "side" }, el("p", { class: "empty" }, "The other run has no such question."))) : null),
      a.references.length ? el("section", {}, el("h3", {}, ran ? "Tests" : a.references.length > 1 ? "Accepted answers" : "Accepted answer"),
        // Of a program the parts are what stands around it, the tests last.
        a.references.slice(0, 40).map((r) => block(!Array.isArray(r) ? r : ran ? r.at(-1).trim() : r.join(", "))),
        a.references.length > 40 ? el("p", { class: "note" }, `and ${count(a.references.length - 40)} more`) : null) : null);
    this.placed();
  }

  /* Where in the list the instance is. */
  placed() {
    const where = this.root.querySelector(".place"), at = this.place?.();
    if (where) where.textContent = at ? `, ${at} listed` : "";
  }

  /* What one run answered. */
  side(one, k, two) {
    const values = Object.entries(one.values).map(([name, value]) => {
      const judged = JUDGING(name, one.better[name]);
      const [text, kind] = verdict(value, judged, one.status);
      return el("span", { class: `value ${kind} ${name === one.primary_metric ? "primary" : ""}`,
        title: name === one.primary_metric ? "the task's primary metric" : null },
        name, " ", el("b", { title: fixed(value, 4) }, judged && kind !== "none" ? text : fixed(value)));
    });
    return el("div", { class: "side" },
      el("h3", { class: "of-run" }, two ? nodes(one.run) : one.kind === "generate" ? "Answers" : one.kind === "rolling" ? "Document" : "Choices"),
      el("p", { class: "values" }, values,
        one.status === "ok" ? null : el("span", { class: `status ${one.status}` }, one.status)),
      one.kind === "generate" ? this.samples(one) : one.kind === "rolling" ? this.document(one, k) : this.choices(one, k));
  }

  tokensOf(k, choice) {
    return this.tokens[k]?.requests?.find((r) => r.choice === choice);
  }

  choices(one, k) {
    if (!one.choices?.length) return el("p", { class: "empty" }, "No request of this instance is stored.");
    const norms = Object.keys(NORMS).filter((n) => one.choices.some((c) => c.scores[n] !== undefined));
    const several = one.choices.length > 1;
    const error = this.tokens[k]?.error;
    const primary = norms.includes(one.primary_metric) ? one.primary_metric : null;
    const ranges = Object.fromEntries(norms.map((n) => {
      const known = one.choices.map((c) => c.scores[n]).filter((s) => s !== null && s !== undefined);
      return [n, [Math.min(...known), Math.max(...known)]];
    }));
    const rows = one.choices.map((c) => {
      const tokens = this.tokensOf(k, c.choice);
      const gold = c.choice === one.gold;
      const text = tokens ? scored(tokens.scored, tokens.logprobs)
        : el("span", { class: "plain-choice" }, ...nodes(c.text.slice(0, 5000)), c.text.length > 5000 ? ` … ${count(c.text.length)} characters` : "");
      return [el("tr", { class: gold ? "gold" : null },
        el("th", { scope: "row" }, several ? letter(c.choice) : "", gold && several ? el("span", { class: "gold-mark", title: "the right choice" }, "★ right") : null),
        el("td", { class: "choice-text", colspan: norms.length }, text,
          error && c.token_logprobs ? el("span", { class: "strip note" }, " ", c.token_logprobs.slice(0, 200).map((p) => fixed(p, 2)).join(" "), c.token_logprobs.length > 200 ? " …" : "") : null,
          el("small", { class: "sizes" }, `${plural(c.tokens, "token")}, ${plural(c.bytes, "byte")}`,
            c.greedy ? ", each the most likely one" : "", c.seam ? ", tokens straddle the seam to the prompt" : "", c.truncated ? ", prompt truncated" : ""))),
      el("tr", { class: gold ? "gold scores" : "scores" }, el("th", {}), norms.map((n) => {
        const best = one.best[n]?.includes(c.choice);
        const [low, high] = ranges[n];
        const s = c.scores[n];
        const share = s === null || s === undefined || high === low ? (s === high ? 1 : 0) : (s - low) / (high - low);
        return el("td", { class: `number ${best ? "best" : ""} ${n === primary ? "primary" : ""}`, title: best ? "the best by this score" : null },
          el("meter", { min: 0, max: 1, value: several ? share : 1, "aria-hidden": "true", class: several ? null : "hidden" }),
          best ? "▲" : "", fixed(s, n === "acc_raw" || n === "acc_uncond" ? 2 : 3));
      }))];
    });
    return el("div", {},
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Choices" }, el("table", { class: "choices" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, several ? "choice" : ""), norms.map((n) =>
          el("th", { scope: "col", class: `number ${n === primary ? "primary" : ""}`, title: `${n}: ${NORMS[n][1]}` }, NORMS[n][0],
            el("small", {}, n === primary ? " primary" : ""))))),
        rows.map((pair) => el("tbody", {}, pair)))),
      several && one.gold === null ? el("p", { class: "note" }, "The run does not name the right choice, and its bits per byte fit several.") : null,
      error ? el("p", { class: "note" }, error) : this.tokens[k] ? legend() : el("p", { class: "note" }, "Reading the tokenizer …"));
  }

  document(one, k) {
    const c = one.choices?.[0];
    if (!c) return el("p", { class: "empty" }, "No request of this instance is stored.");
    const tokens = this.tokensOf(k, c.choice);
    return el("div", {},
      el("p", { class: "note" }, `${plural(c.tokens, "token")}, ${plural(c.bytes, "byte")}`, tokens && tokens.windows > 1 ? `, in ${tokens.windows} windows` : ""),
      tokens ? [legend(), scored(tokens.scored, tokens.logprobs)] : block(c.text),
      this.tokens[k]?.error ? el("p", { class: "note" }, this.tokens[k].error) : null);
  }

  samples(one) {
    const s = one.sampling;
    return el("div", {},
      s ? el("p", { class: "note" }, s.temperature ? `temperature ${s.temperature}, top-p ${s.top_p}` : "greedy",
        `, at most ${count(s.max_tokens)} tokens`, s.stop.length ? [", stop at ", s.stop.map((t, k) => [k ? ", " : "", el("code", {}, ...nodes(JSON.stringify(t)))])] : "") : null,
      one.samples.length ? one.samples.map((sample, k) => this.sample(sample, k, one)) : el("p", { class: "empty" }, "No answer is stored."),
      el("p", { class: "note" }, "Of generated text a run stores the sum of log-probabilities, not each token's."));
  }

  sample(sample, k, one) {
    const { answer, right, verdict: run } = sample;
    const at = answer ? sample.text.lastIndexOf(answer) : -1;
    const known = right !== null && right !== undefined;
    return el("section", { class: "sample" },
      el("h4", {}, one.samples.length > 1 ? `Sample ${k + 1} of ${one.samples.length}` : "Answer",
        known ? el("span", { class: `verdict ${right >= 0.5 ? "right" : "wrong"}` }, right >= 0.5 ? " ✓ right" : " ✗ wrong") : null,
        el("small", {}, ` ${plural(sample.tokens, "token")}, `,
          sample.finish === "length" ? el("b", { class: "bad" }, "ended at the token limit") : "ended by itself",
          sample.logprob === null ? "" : `, log p ${fixed(sample.logprob, 2)} in all`)),
      block(sample.text, { mark: at >= 0 ? [at, at + answer.length] : null }),
      answer === null || answer === undefined ? null : el("p", { class: "extracted" }, "Extracted answer: ",
        answer === "" ? el("b", { class: "bad" }, "none found") : el("code", {}, ...nodes(answer.slice(0, 2000)))),
      run ? this.program(run) : null);
  }

  /* What became of a program in the sandbox. */
  program(run) {
    const kind = run.status === "passed" ? "right" : "wrong";
    const others = [run.strict ? `tests in a process of their own: ${run.strict}` : "", run.compat ? `as published: ${run.compat}` : ""].filter(Boolean).join("; ");
    const output = (name, text) => text ? el("details", {}, el("summary", {}, name, el("small", {}, ` ${count(text.length)} characters`)), block(text)) : null;
    return el("div", { class: "program" },
      el("p", {}, "Program: ", el("span", { class: `verdict ${kind}` }, run.status),
        el("small", {}, ` (${others})`, run.seconds === null ? "" : ` in ${fixed(run.seconds, 2)} s`,
          run.asserts ? `, ${plural(run.asserts, "assertion")} held` : "", run.tier ? `, sandbox ${run.tier}` : "")),
      run.suspected_cheat ? el("p", { class: "bad" }, el("b", {}, "Suspected cheat: "), "it passes the published form and not the one it cannot reach into.") : null,
      run.detail ? block(run.detail) : null,
      output("standard output", run.stdout), output("standard error", run.stderr), output("what was run", run.program));
  }

  prompt(a, b) {
    const shared = this.found.shared;
    const differs = b && b.prompt !== a.prompt;
    const requests = this.tokens[0]?.requests;
    const contexts = this.tokens[0]?.contexts;
    const on = this.options.boundaries && contexts?.length;
    const cut = requests ? Math.max(0, ...requests.map((r) => r.cut)) : 0;
    const texts = a.kind === "rolling" ? [] : [[null, a.prompt], ...(a.choices || []).filter((c) => c.context !== null).map((c) => [c.choice, c.context])];
    if (!texts.length) return null;
    return el("section", { class: "prompt" },
      el("h3", {}, "Prompt ", el("small", {}, plural(a.prompt_tokens, "token")),
        el("button", { type: "button", "aria-pressed": String(this.options.boundaries), disabled: !contexts?.length, title: "Token boundaries (w)",
          onclick: () => this.toggle("boundaries") }, "Tokens"),
        el("button", { type: "button", onclick: (e) => copy(a.prompt, e.target) }, "Copy")),
      cut ? el("p", { class: "bad note" }, `The window cut ${plural(cut, "token")} from the beginning: the model did not see them. With “Tokens” on, only what it saw is shown.`)
        : a.truncated ? el("p", { class: "bad note" }, "The window cut the beginning of this prompt: the model did not see all of it.") : null,
      on ? contexts.map((pieces, k) => [
        contexts.length > 1 ? el("h4", {}, contextName(requests, k)) : null,
        folded(pieces, cut ? 0 : shared)])
        : texts.map(([choice, text]) => [
          choice === null ? (texts.length > 1 ? el("h4", {}, "Choice A") : null) : el("h4", {}, `Choice ${letter(choice)}`),
          choice === null && shared > 80 ? [examples(block(text.slice(0, shared)), shared), block(text.slice(shared))] : block(text)]),
      differs ? el("section", {}, el("h3", {}, "Prompt of the other run (it differs)"), block(b.prompt)) : null,
      a.choices?.[0]?.unconditional_prompt !== null && a.choices?.[0]?.unconditional_prompt !== undefined
        ? el("section", {}, el("h3", {}, "Unconditional prompt"), block(a.choices[0].unconditional_prompt)) : null);
  }
}

const contextName = (requests, k) => "Choice " + requests.filter((r) => r.context === k).map((r) => letter(r.choice)).join(", ");

const examples = (inner, characters) => el("details", { class: "examples" },
  el("summary", {}, `Examples: ${count(characters)} characters that other prompts of the task begin with, too`), inner);

/* Tokens, with those of the shared beginning folded away. */
function folded(pieces, shared) {
  let characters = 0, at = 0;
  while (at < pieces.length && characters + pieces[at].length <= shared) characters += pieces[at++].length;
  return shared > 80 && characters ? [examples(given(pieces.slice(0, at)), characters), given(pieces.slice(at))] : given(pieces);
}

export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "No access to the clipboard";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}
